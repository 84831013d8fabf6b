// Real programs and a real browser: pages with lowkey.js in headless Chromium talk with `lowkey` and `lowkey-bot` through
// `lowkey-server`, as peers of their own kind and, where what makes them that is taken away on the way, as the original app in Chromium.
// Chromium is as it comes: it hides the addresses of the machine behind `.local` names.
// Usage: node test.js FOLDER-OF-THE-PROGRAMS [PART-OF-A-CASE'S-NAME]

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { fromBase64, generateKeyPair, nacl, toBase64 } from './cipher.js';
import { Agreement, Boxes, Frames, OwnKeys, safetyNumber } from './handshake.js';
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
        const program = this.#program('lowkey', ['--server', this.url, '--name', name, ...args]);
        await program.stderr.find('online');
        return program;
    }

    async bot(...args) {
        await this.#program('lowkey-bot', ['--server', this.url, ...args]).stderr.find('online as echo');
    }

    /** The same as `user`, but neither side hears of the other what an old app does not say. */
    app(name, settings = {}) {
        return this.user(name, { oldApps: true, ...settings }, true);
    }

    /** A page of its own with lowkey.js, online as `name`, and a chat in it that is driven from here. */
    async user(name, settings = {}, isOld = false) {
        const page = await this.open('/index.html');
        if (isOld) await page.evaluate(beOld);
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
            for (const kind of ['met', 'refused']) lowkey.addEventListener(kind, ({ detail }) => put(kind, detail));
        }, [this.url, name, settings]);
        return {
            page,
            call: peer => settled(page.evaluate(peer => turnTo(lowkey.call(peer)), peer)),
            accept: () => page.evaluate(async () => turnTo((await next('request')).accept())),
            decline: () => page.evaluate(async () => (await next('request')).decline()),
            next: kind => page.evaluate(kind => next(kind), kind),
            safetyNumber: () => page.evaluate(() => chat.safetyNumber),
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

/** Makes every WebSocket of a page one that passes on nothing of what Lowkey's own programs say beyond an old app. */
function beOld() {
    const strip = text => {
        const message = JSON.parse(text);
        delete message.payload?.lowkey;
        return JSON.stringify(message);
    };
    window.WebSocket = class extends WebSocket {
        send(text) {
            super.send(strip(text));
        }

        set onmessage(take) {
            super.onmessage = ({ data }) => take({ data: strip(data) });
        }
    };
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

const hex = text => Uint8Array.from(text.match(/../g), byte => parseInt(byte, 16));
const bytes = text => new TextEncoder().encode(text);

const cases = {
    async 'every step of the handshake is that of another implementation'() {
        const vectors = JSON.parse(await readFile(new URL('../vectors/handshake.json', import.meta.url)));
        const [alice, bob] = vectors.identities.map(secret => nacl.box.keyPair.fromSecretKey(hex(secret)));
        const [key, calledKey] = vectors.keys.map(secret => nacl.box.keyPair.fromSecretKey(hex(secret)));
        const own = new OwnKeys(key, hex(vectors.kem_seed));
        assert.deepEqual(own.greeting, vectors.greeting);
        const caller = own.agree(vectors.answer, 'alice', 'bob');
        const called = new Agreement('called', calledKey, vectors.greeting.publicKey, hex(vectors.transcript), hex(vectors.shared));
        const [first, second] = vectors.hellos.map(bytes);
        for (const sealed of [vectors.sealed_first, vectors.sealed_first_known]) assert.deepEqual(called.openFirst(sealed, bob), first);
        assert.equal(called.openFirst(vectors.sealed_first_known, alice), null);
        assert.deepEqual(caller.signals.open(vectors.sealed_second), second);
        assert.equal(caller.signals.open(vectors.sealed_second), null, 'once only');
        assert.equal(called.readHello(first, bob), toBase64(alice.publicKey));
        assert.equal(caller.readHello(second, alice, first), toBase64(bob.publicKey));
        assert.throws(() => called.readHello(second, alice), /false proof/);
        for (const [agreement, identity, hello] of [[caller, alice, first], [called, bob, second]]) {
            assert.deepEqual(JSON.parse(new TextDecoder().decode(agreement.hello(identity, first))), JSON.parse(new TextDecoder().decode(hello)));
        }
        const read = (agreement, text) => new Frames(agreement.conclude(first, second), 65536).read(text);
        assert.deepEqual(read(called, vectors.text_of_caller), { text: 'grüße' });
        assert.deepEqual(read(caller, vectors.text_of_called), { text: 'grüße' });
        const numbers = [[0, 'alice'], [0x20, 'bob']].map(([begin, name]) => [toBase64(Uint8Array.from({ length: 32 }, (_, at) => begin + at)), name]);
        assert.equal(safetyNumber(...numbers), '30995 66850 10881 98914 36086 86589 42897 09292 78922 06503 11987 06478');
    },

    async 'a frame has the lengths that tell little'() {
        const [send, receive] = [new Uint8Array(32), new Uint8Array(32).fill(1)];
        const length = text => fromBase64(new Frames(new Boxes(send, receive), 65536).text(text)).length - 40;
        for (const [size, due] of [[0, 256], [235, 256], [236, 512], [4075, 4096], [4076, 4608], [5000, 5120], [8171, 8192], [8172, 9216], [49_091, 49_112]]) {
            assert.equal(length('x'.repeat(size)), due, `${size}`);
        }
        assert.throws(() => length('x'.repeat(49_092)), /too long/);
    },

    async 'a page calls the bot, proves who it is, and tells the server nothing'(world) {
        await world.bot();
        const page = await world.user('page');
        await page.call('echo');
        for (const text of texts) {
            await page.send(text);
            assert.equal(await page.text(), text);
        }
        const signals = page.page.signals.filter(({ type }) => type.startsWith('signal:'));
        assert(signals.length > 2 && signals.every(({ payload }) => Object.keys(payload).join() === 'sealed'), JSON.stringify(signals));
    },

    async 'who a page is and who it meets is the same at the next start, and nobody else is'(world) {
        const alice = await world.lowkey('alice', '--strict');
        const identity = toBase64(generateKeyPair().secretKey);
        const page = await world.user('page', { identity });
        const calling = page.call('alice');
        await alice.stderr.find('* page wants to talk to you (new to you, and anybody can take a name)');
        alice.write('/accept');
        await calling;
        const met = await page.next('met');
        assert.equal(met.peer, 'alice');
        await alice.stderr.find('connected with page');
        alice.write('/verify');
        const shown = [];
        while (shown.join(' ').split(' ').length < 12) {
            const digits = (await alice.stderr.next()).match(/(\d{5} ?){2,}/);
            if (digits) shown.push(digits[0].trim());
        }
        assert.equal(await page.safetyNumber(), shown.join(' '));
        await page.close();
        await alice.stderr.find('* page left');
        // Both know each other now.
        const known = { alice: met.identity };
        const again = await world.user('page', { identity, known });
        const [callingAgain] = [again.call('alice'), await alice.stderr.find('* page wants to talk to you (the same as before, not verified)')];
        alice.write('/accept');
        await callingAgain;
        await again.close();
        await alice.stderr.find('* page left');
        // Somebody else as page, and somebody else as alice.
        const other = await world.user('page', { known });
        other.call('alice').catch(() => {});
        await alice.stderr.find('page IS NOT WHO THEY WERE');
        const stranger = toBase64(generateKeyPair().publicKey);
        const fooled = await world.user('fooled', { known: { alice: stranger } });
        const vain = assert.rejects(fooled.call('alice'), /not who they were/);
        alice.write('/connect fooled');
        await vain;
        alice.write('/leave');
        await alice.stderr.find('left fooled');
        alice.write('/connect fooled');
        assert.equal(await fooled.next('refused'), 'alice');
    },

    async 'an old app is talked to by a page that wants to, and by no other'(world) {
        const [app, page, lenient] = [await world.app('app'), await world.user('page'), await world.user('lenient', { oldApps: true })];
        const vain = assert.rejects(page.call('app'), /old app/);
        await settled(app.accept()).catch(() => {});
        await vain;
        for (const [one, other, name] of [[lenient, app, 'app'], [app, lenient, 'lenient']]) {
            await Promise.all([one.call(name), other.accept()]);
            await one.send('hello');
            assert.equal(await other.text(), 'hello');
            await other.close();
            await Promise.all([one.end(), other.end()]);
        }
        // A word of it is no news to who wants none.
        app.call('page').catch(() => {});
        await Promise.all([lenient.call('page'), page.accept()]);
        assert.equal(await page.page.evaluate(() => lowkey.name), 'page');
    },

    async 'an old app in Chromium calls the bot, and is answered in v1'(world) {
        await world.bot();
        const page = await world.app('page');
        await page.call('echo');
        for (const text of texts) {
            await page.send(text);
            assert.equal(await page.text(), text);
        }
        const candidates = page.page.signals.filter(({ type }) => type === 'signal:ice').map(({ payload }) => payload.candidate);
        assert(candidates.length > 0 && candidates.every(candidate => candidate.includes('.local ')), candidates.join('\n'));
    },

    async 'an old app that writes v2 is answered in v2'(world) {
        await world.bot();
        const page = await world.app('page', { textFormat: 'v2' });
        await page.call('echo');
        for (const text of texts) {
            await page.send(text);
            assert.equal(await page.text(), text);
        }
        const read = await page.page.evaluate(() => read);
        assert(read.length === texts.length && read.every(message => message.startsWith('{"rk":')), read.join('\n'));
    },

    async 'an old app calls a user of lowkey, and is called'(world) {
        const app = await world.app('app');
        const alice = await world.lowkey('alice');
        const calling = app.call('alice');
        await alice.stderr.find('* app wants to talk to you (an old app');
        alice.write('/accept');
        await calling;
        await alice.stderr.find('app uses an old app');
        await talk(app, 'app', alice);
        const bob = await world.lowkey('bob', '--old-apps', '--text-format', 'v2', 'app');
        await app.accept();
        await bob.stderr.find('app uses an old app');
        await talk(app, 'app', bob);
    },

    async 'a page calls a user of lowkey'(world) {
        const alice = await world.lowkey('alice');
        const page = await world.user('page');
        const calling = page.call('alice');
        await alice.stderr.find('* page wants to talk to you');
        alice.write('/accept');
        await alice.stderr.find('page is new to you');
        await calling;
        await talk(page, 'page', alice);
    },

    async 'a user of lowkey calls a page'(world) {
        const page = await world.user('page');
        const alice = await world.lowkey('alice', 'page');
        await page.accept();
        await alice.stderr.find('page is new to you');
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
        const longest = 'x'.repeat(196_547);
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

    async 'a strict user refuses an old app'(world) {
        const alice = await world.lowkey('alice', '--strict');
        const page = await world.app('page');
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
        const identity = toBase64(generateKeyPair().secretKey);
        for (const leave of [page => page.close(), page => page.goto('about:blank')]) {
            const page = await world.user('page', { identity });
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
