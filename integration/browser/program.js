// A program of ours under test, its lines as they come.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Program {
    #child;

    /** Starts it with nothing of this process's settings. */
    constructor(path, args, variables = {}) {
        this.#child = spawn(path, args, { env: variables, stdio: 'pipe' });
        this.stdout = new Lines(this.#child.stdout);
        this.stderr = new Lines(this.#child.stderr);
        /** Its exit code, in time. */
        this.ended = new Promise(resolve => this.#child.on('close', resolve));
    }

    write(line) {
        this.#child.stdin.write(`${line}\n`);
    }

    /** The end of its input. */
    close() {
        this.#child.stdin.end();
    }

    async end() {
        this.#child.kill('SIGKILL');
        await this.ended;
    }
}

class Lines {
    #lines;

    constructor(stream) {
        const lines = createInterface({ input: stream });
        this.#lines = lines[Symbol.asyncIterator]();
        /** All lines so far, whether somebody has asked for them or not. */
        this.seen = [];
        lines.on('line', line => this.seen.push(line));
    }

    async next() {
        const { value, done } = await this.#lines.next();
        if (done) throw new Error(`no further line after ${JSON.stringify(this.seen.slice(-20))}`);
        return value;
    }

    /** The next line with this part; those before it are passed over. */
    async find(part) {
        for (;;) {
            const line = await this.next();
            if (line.includes(part)) return line;
        }
    }
}
