/*
 * Lowkey in a browser. It proves who it is, and takes nobody for somebody else, as all of Lowkey's own programs do; but a chat does not
 * outlive its connection.
 *
 *     const lowkey = await Lowkey.connect('wss://chat.example', 'alice', { identity: localStorage.identity });
 *     localStorage.identity = lowkey.identity;
 *
 *     const chat = await lowkey.call('bob');
 *     chat.addEventListener('message', ({ detail: text }) => console.log(text));
 *     chat.addEventListener('close', ({ detail: reason }) => console.log(reason));
 *     chat.send('hello');
 *     chat.close();
 *
 *     lowkey.addEventListener('request', async ({ detail: request }) => {
 *         if (!confirm(`Talk with ${request.peer}?`)) return request.decline();
 *         const chat = await request.accept();
 *     });
 *
 * A listener that is added to a chat at once, without another `await` in between, misses nothing. Without a bundler, the page says
 * in an import map where `tweetnacl` and `@noble/…` are; index.html shows how.
 */

import { Chat, MAX_EARLY } from './chat.js';
import { fromBase64, generateKeyPair, nacl, toBase64 } from './cipher.js';
import { answer, kind } from './handshake.js';

/**
 * A user who is online at a server. Events:
 * - `request`: somebody calls; `detail` is a {@link Request};
 * - `requestended`: the caller of that `detail` waits no longer;
 * - `met`: somebody has proven who they are for the first time; `detail` is `{peer, identity}`, to be kept for `known`;
 * - `refused`: somebody calls under the name of somebody known, and is not; `detail` is the name;
 * - `close`: the connection to the server is over. Open chats go on; to be called again, connect anew.
 */
export class Lowkey extends EventTarget {
    #socket;
    #settings;
    #chats = new Map();
    #requests = new Map();
    /** With whom the server has opened sessions, and how many of their greetings count for that. */
    #announced = new Map();
    /** What is agreed on with those whose greeting is answered, and whose hello is awaited. */
    #approaches = new Map();

    /**
     * Goes online.
     * @param {string} server `ws://host:port` or `wss://host`
     * @param {string} name the username, 3 to 20 of `[a-zA-Z0-9_]`
     * @param {object} [settings]
     * @param {RTCIceServer[]} [settings.iceServers] STUN and TURN servers; none by default
     * @param {'v1'|'v2'} [settings.textFormat] how texts are written before a v2 text has come; v1 by default
     * @param {string} [settings.identity] the secret half of who you are, as `identity` of an earlier one says; a fresh one by default
     * @param {Object<string, string>} [settings.known] who was met before: names, and the identities that `met` told
     * @param {boolean} [settings.oldApps] also talks to old apps, which cannot prove who they are; not by default
     * @param {string} [settings.token] a secret of your own choice, with which the server holds the name for you
     * @returns {Promise<Lowkey>} rejected with an `Error` where that cannot be
     */
    static async connect(server, name, settings = {}) {
        const url = new URL(server);
        if (url.pathname === '/') url.pathname = '/ws';
        url.searchParams.set('username', name);
        if (settings.token) url.searchParams.set('token', settings.token);
        const socket = new WebSocket(url);
        await new Promise((resolve, reject) => {
            socket.onopen = resolve;
            socket.onclose = () => reject(new Error('the server cannot be reached, or refuses that name'));
        });
        return new Lowkey(socket, name, settings);
    }

    /** Takes over an open socket; see {@link Lowkey.connect}. */
    constructor(socket, name, settings) {
        super();
        /** The username. */
        this.name = name;
        this.#socket = socket;
        const identity = settings.identity ? nacl.box.keyPair.fromSecretKey(fromBase64(settings.identity)) : generateKeyPair();
        /** The secret half of who you are. Who has it can pose as you. */
        this.identity = toBase64(identity.secretKey);
        this.#settings = { iceServers: [], textFormat: 'v1', oldApps: false, ...settings, identity, known: { ...settings.known } };
        socket.onmessage = ({ data }) => this.#receive(data);
        // Who closes the tab leaves: the other side would wait for signs of life, until it takes the connection for lost.
        addEventListener('pagehide', () => this.#chats.forEach(chat => chat.leave()));
        socket.onclose = () => {
            for (const request of this.#requests.values()) this.#endRequest(request);
            for (const chat of this.#chats.values()) chat.handle('error', { message: 'the server is lost' });
            this.dispatchEvent(new Event('close'));
        };
    }

    /**
     * Calls somebody, and waits for the open chat; the other side may have to agree first. A call of theirs that waits is taken, and
     * where there is a chat already it is that one.
     * @param {string} peer their username
     * @returns {Promise<Chat>} rejected with an `Error` that says why no chat came about
     */
    async call(peer) {
        const request = this.#requests.get(peer);
        if (request) return request.accept();
        const present = this.#chats.get(peer);
        if (present) return present.opened;
        if (this.#socket.readyState !== WebSocket.OPEN) throw new Error('the server is lost');
        const chat = this.#addChat(peer, true);
        const approach = this.#approaches.get(peer);
        this.#approaches.delete(peer);
        // Whose greeting is answered is not called.
        approach ? chat.await(approach) : this.#send('session:connect', peer);
        return chat.opened;
    }

    /** Goes offline. Open chats go on. */
    close() {
        this.#socket.close();
    }

    #send(type, target, payload) {
        this.#socket.send(JSON.stringify({ type, target, payload }));
    }

    #addChat(peer, isInitiator) {
        const signal = (type, payload) => this.#send(type, peer, payload);
        const met = identity => {
            if (this.#settings.known[peer]) return;
            this.#settings.known[peer] = identity;
            this.dispatchEvent(new CustomEvent('met', { detail: { peer, identity } }));
        };
        const chat = new Chat({ peer, isInitiator, username: this.name, signal, met, ...this.#settings });
        const forget = () => this.#chats.get(peer) === chat && this.#chats.delete(peer);
        chat.closed.then(forget);
        this.#chats.set(peer, chat);
        return chat;
    }

    #receive(text) {
        const { type, sender, payload } = JSON.parse(text);
        const request = this.#requests.get(sender);
        const chat = this.#chats.get(sender);
        if (type === 'session:joined') {
            this.#announced.set(payload.peer, Math.min((this.#announced.get(payload.peer) ?? 0) + 1, MAX_ANNOUNCED));
            // Where it is somebody else's call, the key that follows says so.
            this.#chats.get(payload.peer)?.handle(type);
        } else if (type === 'error') {
            // Our server says whom an error is about; another one answers calls in their order.
            const calls = [...this.#chats.values()].filter(chat => chat.state === 'calling');
            (payload.target ? this.#chats.get(payload.target) : calls[0])?.handle(type, payload);
        } else if (chat?.handle(type, payload)) {
            // It belongs to that.
        } else if (type === 'key:exchange') {
            // A key that nobody waits for is a new call, even from somebody in an open chat.
            this.#receiveKey(sender, payload);
        } else if (type === 'signal:ice' && this.#approaches.has(sender) && payload?.sealed) {
            this.#receiveHello(sender, payload.sealed);
        } else if (request?.isEndedBy(type, payload)) {
            this.#endRequest(request);
        } else if (request && type === 'signal:ice') {
            request.addCandidate(payload);
        }
    }

    /** Somebody calls. A program of our own kind is answered at once, which tells it no more than that one runs here. */
    #receiveKey(peer, exchange) {
        const count = this.#announced.get(peer) ?? 0;
        let said;
        try {
            said = kind(exchange);
        } catch {}
        const isDue = said === 'greeting' || (said === 'app' && !this.#requests.has(peer) && !this.#approaches.has(peer));
        if (count === 0 || !isDue) return;
        this.#announced.set(peer, count - 1);
        if (said === 'greeting') {
            const { said, agreement } = answer(exchange, peer, this.name);
            this.#approaches.set(peer, agreement);
            if (this.#approaches.size > MAX_APPROACHES) this.#approaches.delete(this.#approaches.keys().next().value);
            setTimeout(() => this.#approaches.get(peer) === agreement && this.#approaches.delete(peer), HELLO_TIME);
            this.#send('key:exchange', peer, said);
        } else if (this.#settings.known[peer]) {
            this.dispatchEvent(new CustomEvent('refused', { detail: peer }));
        } else if (this.#settings.oldApps) {
            const accept = chat => chat.acceptApp(exchange);
            this.#addRequest(new Request(peer, null, accept, () => this.#send('session:decline', peer)));
        }
    }

    /** A caller says who they are. Whoever is not, hears nothing. */
    #receiveHello(peer, sealed) {
        const agreement = this.#approaches.get(peer);
        const { identity, known } = this.#settings;
        try {
            const first = agreement.openFirst(sealed, identity);
            // It may be a late signal of an earlier call.
            if (!first) return;
            this.#approaches.delete(peer);
            const shown = agreement.readHello(first, identity);
            if (known[peer] && known[peer] !== shown) {
                this.dispatchEvent(new CustomEvent('refused', { detail: peer }));
                return;
            }
            const accept = chat => chat.accept({ agreement, first, identity: shown });
            const decline = () => this.#send('signal:ice', peer, agreement.signals.signal({ refused: 'declined' }));
            const before = this.#requests.get(peer);
            if (before) this.#endRequest(before);
            this.#addRequest(new Request(peer, shown, accept, decline, agreement.signals));
        } catch {
            this.#approaches.delete(peer);
        }
    }

    #addRequest(request) {
        const { peer } = request;
        if (this.#requests.size >= MAX_REQUESTS) return;
        request.take = isAccepted => {
            if (this.#requests.get(peer) !== request) throw new Error(`${peer} is no longer calling`);
            this.#requests.delete(peer);
            if (!isAccepted) return null;
            this.#chats.get(peer)?.close();
            return this.#addChat(peer, false);
        };
        this.#requests.set(peer, request);
        setTimeout(() => this.#endRequest(request), REQUEST_TIME);
        this.dispatchEvent(new CustomEvent('request', { detail: request }));
    }

    #endRequest(request) {
        if (this.#requests.get(request.peer) !== request) return;
        this.#requests.delete(request.peer);
        this.dispatchEvent(new CustomEvent('requestended', { detail: request }));
    }
}

/** Somebody who calls. Until it is accepted, nothing of the network is told to them. */
class Request {
    #accept;
    #decline;
    #signals;
    #candidates = [];

    constructor(peer, identity, accept, decline, signals) {
        /** Who calls. */
        this.peer = peer;
        /** Who they have proven to be, as base64; `null` of an old app, which proves nothing. */
        this.identity = identity;
        [this.#accept, this.#decline, this.#signals] = [accept, decline, signals];
    }

    /**
     * Takes the call, and waits for the open chat.
     * @returns {Promise<Chat>} rejected with an `Error` that says why no chat came about
     */
    async accept() {
        const chat = this.take(true);
        this.#accept(chat);
        this.#candidates.forEach(candidate => chat.handle('signal:ice', candidate));
        return chat.opened;
    }

    /** Turns the call down. */
    async decline() {
        this.take(false);
        this.#decline();
    }

    /** For lowkey.js: whether the caller has hung up. */
    isEndedBy(type, payload) {
        if (!this.#signals) return type === 'session:decline';
        return type === 'signal:ice' && typeof payload?.sealed === 'string' && this.#signals.open(payload.sealed) !== null;
    }

    /** For lowkey.js: a candidate of an old app that came before the answer. */
    addCandidate(candidate) {
        if (!this.#signals && this.#candidates.length < MAX_EARLY) this.#candidates.push(candidate);
    }
}

/** Calls that may wait at once, and for how long, in milliseconds. */
const MAX_REQUESTS = 3;
const REQUEST_TIME = 60_000;

/** Callers whose hello is awaited at once, and for how long; and how many greetings of one name count. */
const MAX_APPROACHES = 64;
const HELLO_TIME = 10_000;
const MAX_ANNOUNCED = 4;
