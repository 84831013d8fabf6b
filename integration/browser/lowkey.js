/*
 * Lowkey in a browser. It speaks the protocol as the original app does: it has no identity to prove, and the other side is told
 * of an old app.
 *
 *     const lowkey = await Lowkey.connect('wss://chat.example', 'alice');
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
 * in an import map where `tweetnacl` is; index.html shows how.
 */

import { Chat, MAX_EARLY } from './chat.js';

/**
 * A user who is online at a server. Events:
 * - `request`: somebody calls; `detail` is a {@link Request};
 * - `requestended`: the caller of that `detail` waits no longer;
 * - `close`: the connection to the server is over. Open chats go on; to be called again, connect anew.
 */
export class Lowkey extends EventTarget {
    #socket;
    #settings;
    #chats = new Map();
    #requests = new Map();

    /**
     * Goes online.
     * @param {string} server `ws://host:port` or `wss://host`
     * @param {string} name the username, 3 to 20 of `[a-zA-Z0-9_]`
     * @param {object} [settings]
     * @param {RTCIceServer[]} [settings.iceServers] STUN and TURN servers; none by default
     * @param {'v1'|'v2'} [settings.textFormat] how texts are written before a v2 text has come; v1 by default
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
        this.#settings = { iceServers: [], textFormat: 'v1', ...settings };
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
        this.#send('session:connect', peer);
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
        const chat = new Chat({ peer, isInitiator, username: this.name, signal, ...this.#settings });
        const forget = () => this.#chats.get(peer) === chat && this.#chats.delete(peer);
        chat.closed.then(forget);
        this.#chats.set(peer, chat);
        return chat;
    }

    #receive(text) {
        const { type, sender, payload } = JSON.parse(text);
        const request = this.#requests.get(sender);
        if (type === 'session:joined') {
            // Where it is somebody else's call, the key that follows says so.
            this.#chats.get(payload.peer)?.handle(type);
        } else if (type === 'error') {
            // Our server says whom an error is about; another one answers calls in their order.
            const calls = [...this.#chats.values()].filter(chat => chat.state === 'calling');
            (payload.target ? this.#chats.get(payload.target) : calls[0])?.handle(type, payload);
        } else if (request && type === 'session:decline') {
            this.#endRequest(request);
        } else if (request && type === 'signal:ice') {
            request.addCandidate(payload);
        } else if (!this.#chats.get(sender)?.handle(type, payload) && type === 'key:exchange') {
            // A key that nobody waits for is a new call, even from somebody in an open chat.
            this.#addRequest(sender, payload);
        }
    }

    #addRequest(peer, key) {
        if (this.#requests.has(peer) || this.#requests.size >= MAX_REQUESTS) return;
        const request = new Request(peer, (isAccepted, candidates) => {
            if (this.#requests.get(peer) !== request) throw new Error(`${peer} is no longer calling`);
            this.#requests.delete(peer);
            if (!isAccepted) return this.#send('session:decline', peer);
            this.#chats.get(peer)?.close();
            const chat = this.#addChat(peer, false);
            chat.handle('session:joined');
            chat.handle('key:exchange', key);
            candidates.forEach(candidate => chat.handle('signal:ice', candidate));
            return chat.opened;
        });
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

/** Somebody who calls. Until it is accepted, nothing is sent to them. */
class Request {
    #answer;
    #candidates = [];

    constructor(peer, answer) {
        /** Who calls. */
        this.peer = peer;
        this.#answer = answer;
    }

    /**
     * Takes the call, and waits for the open chat.
     * @returns {Promise<Chat>} rejected with an `Error` that says why no chat came about
     */
    async accept() {
        return this.#answer(true, this.#candidates);
    }

    /** Turns the call down. */
    async decline() {
        this.#answer(false);
    }

    /** For lowkey.js: a candidate that came before the answer. */
    addCandidate(candidate) {
        if (this.#candidates.length < MAX_EARLY) this.#candidates.push(candidate);
    }
}

/** Calls that may wait at once, and for how long, in milliseconds. */
const MAX_REQUESTS = 3;
const REQUEST_TIME = 60_000;
