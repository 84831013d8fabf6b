// Real programs and other implementations of WebRTC: peers on each talk with `lowkey` and `lowkey-bot` through `lowkey-server`, in
// both roles. What does not work is tried too: its user is told.
// Usage: node test.js FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]

import assert from 'node:assert/strict';
import { join, resolve } from 'node:path';
import { stacks } from './stacks.js';
import { Program } from '../browser/program.js';
import { Lowkey } from '../browser/lowkey.js';

const [programs, only = ''] = process.argv.slice(2);
const host = process.env.TEST_HOST ?? '127.0.0.1';
const long = 'ein langer Text, 長い文章 👩🏽‍🚀; '.repeat(500);
const texts = ['hello', '', 'grüße, 世界', '👩🏽‍🚀 می‌خواهم', long];

/** A server of a case's own, and what runs with it. */
class World {
    #ends = [];
    programs = [];

    static async start() {
        const world = new World();
        const server = world.#program('lowkey-server', [], { HOST: host, PORT: '0' });
        world.url = `ws://${(await server.stderr.find('listening on ')).split('listening on ')[1]}`;
        return world;
    }

    async lowkey(name, ...args) {
        const program = this.#program('lowkey', ['--server', this.url, '--name', name, ...args]);
        await program.stderr.find('online');
        return program;
    }

    async bot() {
        await this.#program('lowkey-bot', ['--server', this.url]).stderr.find('online as echo');
    }

    /** A user on this implementation. */
    async user(name, stack) {
        globalThis.RTCPeerConnection = stacks[stack];
        const lowkey = await Lowkey.connect(this.url, name);
        this.#ends.push(() => lowkey.close());
        return lowkey;
    }

    #program(name, args, variables) {
        const program = new Program(join(resolve(programs), name), args, variables);
        this.#ends.push(() => program.end());
        this.programs.push(program);
        return program;
    }

    tell() {
        for (const { stdout, stderr } of this.programs) console.log([...stdout.seen, ...stderr.seen].slice(-20).join('\n'));
    }

    async end() {
        for (const end of this.#ends.reverse()) await end();
    }
}

/** The texts of a chat as they come. A listener that is added at once misses none. */
function listen(chat) {
    const [items, waiting] = [[], []];
    chat.addEventListener('message', ({ detail }) => (waiting.length ? waiting.shift()(detail) : items.push(detail)));
    return () => (items.length ? items.shift() : new Promise(resolve => waiting.push(resolve)));
}

/** How long it takes, in milliseconds. */
async function timed(opening) {
    const begin = performance.now();
    return [await opening, performance.now() - begin];
}

async function calls(world, stack) {
    await world.bot();
    const user = await world.user('user', stack);
    const [chat, time] = await timed(user.call('echo'));
    const next = listen(chat);
    for (const text of texts) {
        chat.send(text);
        assert.equal(await next(), text);
    }
    chat.close();
    assert.equal(await chat.closed, 'you left');
    return time;
}

/** The quickest of three openings. A ClientHello that comes too early, and is lost, costs a second each time. */
async function callsAtOnce(world, stack) {
    const times = [];
    for (let round = 0; round < 3; round++) {
        const own = await World.start();
        times.push(await calls(own, stack).finally(() => own.end()));
    }
    const quickest = Math.min(...times);
    assert(quickest < 900, `it took ${times} ms to open`);
    return quickest;
}

async function isCalled(world, stack) {
    const user = await world.user('user', stack);
    const request = new Promise(resolve => user.addEventListener('request', ({ detail }) => resolve(detail)));
    const alice = await world.lowkey('alice', 'user');
    const [chat, time] = await timed((await request).accept());
    const next = listen(chat);
    for (const text of texts) {
        chat.send(text);
        assert.equal(await alice.stdout.next(), `user: ${text}`);
        alice.write(text);
        assert.equal(await next(), text);
    }
    alice.write('/leave');
    assert.equal(await chat.closed, 'the other side left');
    return time;
}

async function isCalledInVain(world, stack) {
    const user = await world.user('user', stack);
    user.addEventListener('request', ({ detail }) => detail.accept().catch(() => {}));
    const alice = await world.lowkey('alice', 'user');
    await alice.stderr.find('* no chat with user: ');
}

const cases = {
    'libdatachannel calls, and is not kept waiting': world => callsAtOnce(world, 'libdatachannel'),
    'libdatachannel is called': world => isCalled(world, 'libdatachannel'),
    'werift calls': world => calls(world, 'werift'),
    // It leaves the beginning of SCTP to the caller, and answers as a client of DTLS, where our WebRTC begins none.
    'werift is called in vain': world => isCalledInVain(world, 'werift'),
};

/** How long a case may take, in milliseconds. Only one that fails takes so long. */
const SOON = 60_000;

let failed = 0;
const chosen = Object.entries(cases).filter(([name]) => name.includes(only));
for (const [name, play] of chosen) {
    let world, timer;
    try {
        world = await World.start();
        const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('not within 60 s')), SOON)));
        const time = await Promise.race([play(world), late]);
        console.log(`ok: ${name}${time ? ` (open in ${time.toFixed(0)} ms)` : ''}`);
    } catch (error) {
        failed += 1;
        console.log(`FAILED: ${name}: ${error.stack}`);
        world?.tell();
    } finally {
        clearTimeout(timer);
        await world?.end();
    }
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 && chosen.length > 0 ? 0 : 1);
