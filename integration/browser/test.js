// Real programs and a real browser: pages with lowkey.js in headless Chromium talk with `lowkey` and `lowkey-bot` through
// `lowkey-server`. Chromium is as it comes: it hides the addresses of the machine behind `.local` names.
// Usage: node test.js FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { Program } from './program.js';

const [programs, only = ''] = process.argv.slice(2);
const host = process.env.TEST_HOST ?? '127.0.0.1';
const long = 'ein langer Text, 長い文章 👩🏽‍🚀; '.repeat(1000);
const texts = ['hello', '', 'grüße, 世界', '👩🏽‍🚀 می‌خواهم', long];

/** What a case has: a server of its own, and whatever it starts by these. All of it ends with the case. */
class World {
    #ends = [];
    pages = [];
    programs = [];

    static async start(browser, site) {
        const world = new World();
        [world.browser, world.site] = [browser, site];
        world.server = world.#program('lowkey-server', [], { HOST: host, PORT: '0' });
        const line = await world.server.stderr.find('listening on ');
        world.url = `ws://${line.split('listening on ')[1]}`;
        return world;
    }

    async lowkey(name, ...args) {
        const program = this.#program('lowkey', ['--server', this.url, '--name', name, '--old-apps', ...args]);
        await program.stderr.find('online');
        return program;
    }

    async bot(...args) {
        await this.#program('lowkey-bot', ['--server', this.url, ...args]).stderr.find('online as echo');
    }

    /** A page of its own with lowkey.js, online as `name`, and a chat in it that is driven from here. */
    async user(name, settings = {}) {
        const page = await this.open('/index.html');
        await page.evaluate(async ([url, name, settings]) => {
            const { Lowkey } = await import('./lowkey.js');
            const queues = {};
            const queue = kind => (queues[kind] ??= { items: [], waiting: [] });
            window.put = (kind, item) => {
                const { items, waiting } = queue(kind);
                waiting.length ? waiting.shift()(item) : items.push(item);
            };
            window.next = kind => {
                const { items, waiting } = queue(kind);
                return items.length ? items.shift() : new Promise(resolve => waiting.push(resolve));
            };
            window.turnTo = async opening => {
                const chat = await opening;
                window.chat = chat;
                chat.addEventListener('message', ({ detail }) => put('text', detail));
                chat.addEventListener('close', ({ detail }) => put('end', detail));
            };
            window.lowkey = await Lowkey.connect(url, name, settings);
            lowkey.addEventListener('request', ({ detail }) => put('request', detail));
        }, [this.url, name, settings]);
        return {
            page,
            call: peer => settled(page.evaluate(peer => turnTo(lowkey.call(peer)), peer)),
            accept: () => page.evaluate(async () => turnTo((await next('request')).accept())),
            decline: () => page.evaluate(async () => (await next('request')).decline()),
            send: text => page.evaluate(text => chat.send(text), text),
            text: () => page.evaluate(() => next('text')),
            end: () => page.evaluate(() => next('end')),
            close: () => page.evaluate(() => chat.close()),
        };
    }

    async open(path) {
        const context = await this.browser.newContext();
        this.#ends.push(() => context.close());
        const page = await context.newPage();
        page.setDefaultTimeout(SOON);
        // What lowkey.js says to the server, as it is on the wire.
        page.signals = [];
        page.on('websocket', socket => socket.on('framesent', ({ payload }) => page.signals.push(JSON.parse(payload))));
        page.on('pageerror', error => console.error(`in the page: ${error.stack}`));
        await page.addInitScript(() => {
            // The messages that come over a data channel of this page's own, as they are on the wire.
            window.read = [];
            const { createDataChannel } = RTCPeerConnection.prototype;
            RTCPeerConnection.prototype.createDataChannel = function create(...args) {
                const channel = createDataChannel.apply(this, args);
                channel.addEventListener('message', ({ data }) => read.push(data));
                return channel;
            };
        });
        await page.goto(this.site + path);
        this.pages.push(page);
        return page;
    }

    #program(name, args, variables) {
        const program = new Program(join(resolve(programs), name), args, variables);
        this.#ends.push(() => program.end());
        this.programs.push(program);
        return program;
    }

    /** Says what was to be seen, where something went wrong. */
    async tell() {
        for (const page of this.pages) console.log(await page.locator('#log').innerText({ timeout: 1000 }).catch(error => error.message));
        for (const { stdout, stderr } of this.programs) console.log([...stdout.seen, ...stderr.seen].slice(-20).join('\n'));
    }

    async end() {
        for (const end of this.#ends.reverse()) await end();
    }
}

/** A promise that may be rejected before somebody waits for it. */
function settled(promise) {
    promise.catch(() => {});
    return promise;
}

/** Both ways between a page and a `lowkey`, up to the leaving of the page. */
async function talk(user, name, program, peer) {
    for (const text of texts) {
        await user.send(text);
        assert.equal(await program.stdout.next(), `${name}: ${text}`);
    }
    for (const text of texts) {
        program.write(text);
        assert.equal(await user.text(), text);
    }
    await user.close();
    await program.stderr.find(`* ${name} left`);
    assert.equal(await user.end(), 'you left');
}

const cases = {
    async 'a page calls the bot, and is answered in v1'(world) {
        await world.bot();
        const page = await world.user('page');
        await page.call('echo');
        for (const text of texts) {
            await page.send(text);
            assert.equal(await page.text(), text);
        }
        const candidates = page.page.signals.filter(({ type }) => type === 'signal:ice').map(({ payload }) => payload.candidate);
        assert(candidates.length > 0 && candidates.every(candidate => candidate.includes('.local ')), candidates.join('\n'));
    },

    async 'a page that writes v2 is answered in v2'(world) {
        await world.bot();
        const page = await world.user('page', { textFormat: 'v2' });
        await page.call('echo');
        for (const text of texts) {
            await page.send(text);
            assert.equal(await page.text(), text);
        }
        const read = await page.page.evaluate(() => read);
        assert(read.length === texts.length && read.every(message => message.startsWith('{"rk":')), read.join('\n'));
    },

    async 'a page calls a user of lowkey'(world) {
        const alice = await world.lowkey('alice');
        const page = await world.user('page');
        const calling = page.call('alice');
        await alice.stderr.find('* page wants to talk to you');
        alice.write('/accept');
        await alice.stderr.find('page uses an old app');
        await calling;
        await talk(page, 'page', alice);
    },

    async 'a user of lowkey calls a page'(world) {
        const page = await world.user('page');
        const alice = await world.lowkey('alice', 'page');
        await page.accept();
        await alice.stderr.find('page uses an old app');
        await talk(page, 'page', alice);
    },

    async 'a user of lowkey who writes v2 calls a page'(world) {
        const page = await world.user('page');
        const alice = await world.lowkey('alice', '--text-format', 'v2', 'page');
        await page.accept();
        await talk(page, 'page', alice);
    },

    async 'what a script pipes to a page arrives to the last line'(world) {
        const page = await world.user('page');
        const script = await world.lowkey('script', 'page');
        const lines = Array.from({ length: 500 }, (_, number) => `line ${number}`);
        lines.forEach(line => script.write(line));
        script.close();
        await page.accept();
        for (const line of lines) assert.equal(await page.text(), line);
        assert.equal(await page.end(), 'the other side left');
        assert.equal(await script.ended, 0);
    },

    async 'what a page sends before it leaves arrives to the last text'(world) {
        const alice = await world.lowkey('alice');
        const page = await world.user('page');
        const calling = page.call('alice');
        await alice.stderr.find('wants to talk');
        alice.write('/accept');
        await calling;
        await page.page.evaluate(() => {
            for (let number = 0; number < 500; number++) chat.send(`line ${number}`);
            chat.close();
        });
        for (let number = 0; number < 500; number++) assert.equal(await alice.stdout.next(), `page: line ${number}`);
        await alice.stderr.find('* page left');
    },

    async 'the longest text goes both ways, and a longer one is refused'(world) {
        await world.bot();
        const page = await world.user('page');
        await page.call('echo');
        const longest = 'x'.repeat(196_568);
        await page.send(longest);
        assert.equal(await page.text(), longest);
        await assert.rejects(page.send(`${longest}x`), /too long/);
        await page.send('goes on');
        assert.equal(await page.text(), 'goes on');
    },

    async 'a page is declined, declines, and finds nobody'(world) {
        const alice = await world.lowkey('alice');
        const page = await world.user('page');
        const calling = assert.rejects(page.call('alice'), /declined/);
        await alice.stderr.find('wants to talk');
        alice.write('/decline');
        await calling;
        alice.write('/connect page');
        await page.decline();
        await alice.stderr.find('* page declined');
        await assert.rejects(page.call('nobody'), /offline|not online/i);
    },

    async 'a strict user refuses a page'(world) {
        const alice = await world.lowkey('alice', '--strict');
        const page = await world.user('page');
        // It hears nothing of that.
        page.call('alice').catch(() => {});
        await alice.stderr.find('old app');
    },

    async 'a page and a user of lowkey call each other at once'(world) {
        // The smaller name is the page's in one round, and the other's in the next.
        for (const name of ['aaa', 'zzz']) {
            const page = await world.user(name);
            const lowkey = await world.lowkey(`mmm_${name}`);
            lowkey.write(`/connect ${name}`);
            await page.call(`mmm_${name}`);
            await lowkey.stderr.find('connected with');
            await talk(page, name, lowkey);
        }
    },

    async 'a tab that is closed or goes elsewhere has left'(world) {
        const alice = await world.lowkey('alice');
        for (const leave of [page => page.close(), page => page.goto('about:blank')]) {
            const page = await world.user('page');
            alice.write('/connect page');
            await page.accept();
            await alice.stderr.find('connected with');
            await leave(page.page);
            await alice.stderr.find('* page left');
        }
    },

    async 'two pages talk, also where they call each other at once'(world) {
        const [anna, bert] = [await world.user('anna'), await world.user('bert', { textFormat: 'v2' })];
        await Promise.all([anna.call('bert'), bert.accept()]);
        for (const text of texts) {
            await anna.send(text);
            assert.equal(await bert.text(), text);
            await bert.send(text);
            assert.equal(await anna.text(), text);
        }
        await anna.close();
        assert.equal(await bert.end(), 'the other side left');
        assert.equal(await anna.end(), 'you left');
        for (let round = 0; round < 3; round++) {
            await Promise.all([anna.call('bert'), bert.call('anna')]);
            await anna.send('again');
            assert.equal(await bert.text(), 'again');
            await bert.close();
            await Promise.all([anna.end(), bert.end()]);
        }
    },

    async 'the example page is used by hand'(world) {
        await world.bot();
        const page = await world.open('/index.html');
        const says = text => page.locator('#log p', { hasText: text }).waitFor();
        await page.getByLabel('Server').fill(world.url);
        await page.getByLabel('Your name').fill('page');
        await page.getByRole('button', { name: 'Go online' }).click();
        await page.getByLabel('Whom to call').fill('echo');
        await page.getByRole('button', { name: 'Call' }).click();
        await says('Connected directly with echo.');
        await page.getByLabel('Text').fill('<b>grüße</b>');
        await page.getByRole('button', { name: 'Send' }).click();
        await says('echo: <b>grüße</b>');
        await page.getByRole('button', { name: 'Leave' }).click();
        await says('The chat with echo is over: you left.');
        const alice = await world.lowkey('alice', 'page');
        await page.getByRole('button', { name: 'Accept' }).click();
        await says('Connected directly with alice.');
        alice.write('/quit');
        await says('The chat with alice is over: the other side left.');
    },
};

/** Serves this folder to the browser. */
async function serve() {
    const types = { '.html': 'text/html', '.js': 'text/javascript' };
    const root = fileURLToPath(new URL('.', import.meta.url));
    const server = createServer(async ({ url }, response) => {
        const path = join(root, new URL(url, 'http://x').pathname);
        const content = await readFile(path).catch(() => null);
        response.writeHead(content ? 200 : 404, { 'Content-Type': types[extname(path)] ?? 'text/plain' });
        response.end(content);
    });
    await new Promise(listening => server.listen(0, host, listening));
    return server;
}

async function run() {
    const server = await serve();
    const { address, family, port } = server.address();
    const browser = await chromium.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
            '--disable-component-update', '--disable-sync'],
    });
    let failed = 0;
    const chosen = Object.entries(cases).filter(([name]) => name.includes(only));
    for (const [name, play] of chosen) {
        const begin = Date.now();
        let world, timer;
        try {
            world = await World.start(browser, `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`);
            const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('not within 20 s')), SOON)));
            await Promise.race([play(world), late]);
            console.log(`ok: ${name} (${Date.now() - begin} ms)`);
        } catch (error) {
            failed += 1;
            console.log(`FAILED: ${name}: ${error.stack}`);
            await world?.tell();
        } finally {
            clearTimeout(timer);
            await world?.end();
        }
    }
    await browser.close();
    server.close();
    console.log(`${chosen.length - failed} passed, ${failed} failed`);
    return failed === 0 && chosen.length > 0 ? 0 : 1;
}

/** How long a case may take. Only one that fails takes so long. */
const SOON = 20_000;

process.exit(await run());
