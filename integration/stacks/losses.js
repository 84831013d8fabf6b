// Calls between our programs and other implementations of WebRTC on a network that loses one datagram of their handshake: each one
// that either side sends is lost once, in both roles, and the chat is open within three seconds all the same.
// Usage: node losses.js FOLDER-OF-THE-PROGRAMS FOLDER-OF-THE-PYTHON-ENVIRONMENTS [PART-OF-A-CASE'S-NAME]

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Hop, here, isHandshake } from './hop.js';
import { stacks } from './stacks.js';
import { Lowkey } from '../browser/lowkey.js';
import { Program } from '../browser/program.js';

const [programs, environments, only = ''] = process.argv.slice(2);
const folder = dirname(fileURLToPath(import.meta.url));

/** How long a chat may take to open, whichever datagram was lost, in milliseconds. */
const OPEN_TIME = 3000;

/** A user on an implementation for Node.js. */
async function onNode(stack, url) {
    globalThis.RTCPeerConnection = stacks[stack];
    const lowkey = await Lowkey.connect(url, 'user', { oldApps: true });
    const request = new Promise(resolve => lowkey.addEventListener('request', ({ detail }) => resolve(detail)));
    return {
        call: () => echo(lowkey.call('echo')),
        accept: async () => void (await (await request).accept()),
        end: () => lowkey.close(),
    };
}

/** Says something in the chat with the bot, once that is open. */
async function echo(opening) {
    const chat = await opening;
    const answer = new Promise(resolve => chat.addEventListener('message', ({ detail }) => resolve(detail)));
    chat.send('hello');
    assert.equal(await answer, 'hello');
}

/** A user in a browser. */
async function onPage(browser, site, url) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${site}/index.html`);
    await page.evaluate(async url => {
        const { Lowkey } = await import('./lowkey.js');
        window.lowkey = await Lowkey.connect(url, 'user', { oldApps: true });
        window.request = new Promise(resolve => lowkey.addEventListener('request', ({ detail }) => resolve(detail)));
    }, url);
    return {
        call: () => page.evaluate(async () => {
            const chat = await lowkey.call('echo');
            const answer = new Promise(resolve => chat.addEventListener('message', resolve));
            chat.send('hello');
            await answer;
        }),
        accept: () => page.evaluate(async () => void (await (await request).accept())),
        end: () => context.close(),
    };
}

/** A user on aiortc, in a process of its own. */
async function onPython(environment, url) {
    const python = join(resolve(environments), environment, 'bin/python');
    const user = new Program(python, [join(folder, 'user.py'), url], { PYTHONDONTWRITEBYTECODE: '1' });
    const ask = async what => {
        user.write(what);
        assert.equal(await user.stdout.next(), 'done');
    };
    assert.equal(await user.stdout.next(), 'online');
    return { call: () => ask('call echo'), accept: () => ask('accept'), end: () => user.end() };
}

/** One call by a hop that loses what `arrives` says; how long it took to open and to say something. */
async function call(start, isCalled, arrives) {
    const running = [];
    const program = (name, args, variables) => {
        const program = new Program(join(resolve(programs), name), args, variables);
        running.push(program);
        return program;
    };
    try {
        const server = program('lowkey-server', [], { HOST: here, PORT: '0' });
        const url = `ws://${(await server.stderr.find('listening on ')).split('listening on ')[1]}`;
        const hop = await Hop.before(url, arrives);
        running.push(hop);
        if (!isCalled) await program('lowkey-bot', ['--server', url]).stderr.find('online as echo');
        const user = await start(hop.url);
        running.push(user);
        const begin = performance.now();
        if (isCalled) {
            const alice = program('lowkey', ['--server', url, '--name', 'alice', '--old-apps', 'user'], {});
            await Promise.all([user.accept(), alice.stderr.find('connected with')]);
        } else {
            await user.call();
        }
        return performance.now() - begin;
    } finally {
        for (const item of running.reverse()) await item.end();
    }
}

/** Loses each datagram of the handshake to one side once, until a call has no more of them. */
async function loses(start, isCalled, to) {
    const times = [];
    for (let lost = 0; ; lost++) {
        let [seen, hasLost] = [0, false];
        const opening = call(start, isCalled, (receiver, datagram) => {
            if (receiver !== to || !isHandshake(datagram)) return true;
            const isIt = seen++ === lost;
            hasLost ||= isIt;
            return !isIt;
        });
        let timer;
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error(`datagram ${lost} to ${to} was lost: not open within 20 s`)), 20_000);
        });
        const time = await Promise.race([opening, late]).finally(() => clearTimeout(timer));
        if (!hasLost) return times;
        times.push(Math.round(time));
        assert(time < OPEN_TIME, `datagram ${lost} to ${to} was lost: ${time.toFixed(0)} ms`);
    }
}

/** Serves the page to a browser. */
async function serve() {
    const server = createServer(async ({ url }, response) => {
        const path = join(folder, '../browser', new URL(url, 'http://x').pathname);
        const content = await readFile(path).catch(() => null);
        const type = path.endsWith('.js') ? 'text/javascript' : 'text/html';
        response.writeHead(content ? 200 : 404, { 'Content-Type': type });
        response.end(content ?? '');
    });
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
    return server;
}

const users = { libdatachannel: url => onNode('libdatachannel', url) };
for (const environment of (await readdir(environments)).filter(name => name.startsWith('aiortc-')).sort()) {
    users[environment] = url => onPython(environment, url);
}
const ends = [];
const path = process.env.CHROMIUM ?? '/usr/bin/chromium';
if (await readFile(path).then(() => true, () => false)) {
    const { chromium } = createRequire(join(folder, '../browser/test.js'))('playwright-core');
    // The hop takes no part in multicast, by which a browser else hides its addresses.
    const args = ['--disable-features=WebRtcHideLocalIpsWithMdns'];
    const browser = await chromium.launch({ executablePath: path, args, chromiumSandbox: false });
    const site = await serve();
    ends.push(() => browser.close(), () => site.close());
    users.chromium = url => onPage(browser, `http://127.0.0.1:${site.address().port}`, url);
}
let [passed, failed] = [0, 0];
for (const [stack, start] of Object.entries(users)) {
    for (const isCalled of [false, true]) {
        // It begins no SCTP in that role, so that there is no chat at all (versions.py).
        if (stack === 'aiortc-1.14.0' && isCalled) continue;
        
        for (const to of ['stack', 'ours']) {
            const name = `${stack} ${isCalled ? 'is called' : 'calls'}, and what is lost goes to ${to === 'stack' ? 'it' : 'us'}`;
            if (!name.includes(only)) continue;
            try {
                const times = await loses(start, isCalled, to);
                assert(times.length >= 2, 'there was a handshake');
                passed += 1;
                console.log(`ok: ${name} (${times.join(', ')} ms)`);
            } catch (error) {
                failed += 1;
                console.log(`FAILED: ${name}: ${error.stack}`);
            }
        }
    }
}
for (const end of ends) await end();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
