// One chat, from the call to its end: the steps of the protocol, and the browser's WebRTC. It knows no server: what is to be sent to
// the peer by way of one goes out through `signal`, and what came that way comes in through `handle`.

import { Cipher, generateKeyPair, toBase64 } from './cipher.js';

/**
 * A chat with somebody. Events:
 * - `message`: a text has come; `detail` is the text;
 * - `close`: the chat is over; `detail` says why.
 */
export class Chat extends EventTarget {
    #settings;
    #isInitiator;
    #own = generateKeyPair();
    #cipher;
    #connection;
    #channel;
    /** Candidates that came before the peer's description; `null` from then on. */
    #early = [];
    #peerYields;
    #failures = 0;
    #open;
    #fail;
    #end;

    /** For lowkey.js; see `Lowkey.call` and `Request.accept` there. */
    constructor({ peer, isInitiator, ...settings }) {
        super();
        /** Who it is with. */
        this.peer = peer;
        /** `calling`, `keys`, `connecting`, `open`, `closing` or `closed`. */
        this.state = 'calling';
        /** Fulfilled with this chat once it is open, or rejected with an `Error` that says why it never will be. */
        this.opened = new Promise((resolve, reject) => ([this.#open, this.#fail] = [resolve, reject]));
        // Whoever wants to hear of it asks.
        this.opened.catch(() => {});
        /** Fulfilled with the reason once it is over. */
        this.closed = new Promise(resolve => (this.#end = resolve));
        this.#isInitiator = isInitiator;
        this.#settings = settings;
        setTimeout(() => this.#isPending && this.#finish('no answer within a minute'), OPEN_TIME);
    }

    /** Sends a text. Throws an `Error` where the chat is not open, or the text longer than the other side takes. */
    send(text) {
        if (this.state !== 'open') throw new Error('the chat is not open');
        const message = this.#cipher.seal(text);
        if (message.length > this.#connection.sctp.maxMessageSize) throw new Error('the text is too long');
        this.#channel.send(message);
    }

    /** Ends the chat once all that was sent has arrived. */
    close() {
        if (this.state !== 'open') return this.#finish('you left');
        this.state = 'closing';
        // The browser sends what waits before it closes the channel, and both are gone with the connection.
        this.#channel.close();
        setTimeout(() => this.#finish('you left'), CLOSE_TIME);
    }

    /** Ends the chat at once, whatever was not sent yet. */
    leave() {
        this.#finish('you left');
    }

    /** For lowkey.js: takes what the server or the peer said. Returns whether it was due. */
    handle(type, payload) {
        const { state } = this;
        const steps = {
            'session:joined': [state === 'calling', this.#introduce],
            'key:exchange': [state === 'calling' || state === 'keys', this.#receiveKey],
            'signal:offer': [state === 'connecting' && this.#early && this.#takesOffer, this.#answer],
            'signal:answer': [state === 'connecting' && this.#early && this.#isInitiator, this.#describe],
            'signal:ice': [['keys', 'connecting', 'open'].includes(state), this.#addCandidate],
            'session:decline': [this.#isPending, () => this.#finish('declined')],
            error: [this.#isPending, ({ message }) => this.#finish(message)],
        };
        const [isDue, step] = steps[type] ?? [];
        if (!isDue) return false;
        (async () => step.call(this, payload))().catch(error => this.#finish(error.message));
        return true;
    }

    get #isPending() {
        return !['open', 'closing', 'closed'].includes(this.state);
    }

    /** Both may have called at once. A peer of Lowkey's own kind yields to an app that proves nothing; of two such, the smaller name goes first. */
    get #takesOffer() {
        return !this.#isInitiator || (!this.#peerYields && this.peer < this.#settings.username);
    }

    #introduce() {
        this.state = 'keys';
        this.#settings.signal('key:exchange', { publicKey: toBase64(this.#own.publicKey) });
    }

    #receiveKey({ publicKey, lowkey }) {
        // They have called us just when we called them, which is consent enough.
        if (this.state === 'calling') this.#introduce();
        this.#cipher = new Cipher(this.#own, publicKey, this.#settings.textFormat);
        this.#peerYields = lowkey !== undefined;
        this.state = 'connecting';
        if (this.#isInitiator) return this.#offer();
    }

    async #offer() {
        const connection = this.#connect();
        this.#attach(connection.createDataChannel(CHANNEL));
        await connection.setLocalDescription();
        this.#settings.signal('signal:offer', connection.localDescription);
    }

    async #answer(offer) {
        this.#isInitiator = false;
        this.#connection?.close();
        const connection = this.#connect();
        connection.ondatachannel = ({ channel }) => {
            const isFirst = channel.label === CHANNEL && !this.#channel;
            isFirst ? this.#attach(channel) : channel.close();
        };
        this.#channel = null;
        await this.#describe(offer);
        await connection.setLocalDescription();
        this.#settings.signal('signal:answer', connection.localDescription);
    }

    /** Takes the peer's description, and what came before it. The browser keeps their order. */
    async #describe(description) {
        const early = this.#early;
        this.#early = null;
        const described = this.#connection.setRemoteDescription(description);
        early.forEach(candidate => this.#addCandidate(candidate));
        await described;
    }

    async #addCandidate(candidate) {
        if (this.#early) {
            if (this.#early.length < MAX_EARLY) this.#early.push(candidate);
            return;
        }
        // One candidate that is of no use does not spoil the others.
        await this.#connection.addIceCandidate(candidate).catch(() => {});
    }

    #connect() {
        const connection = new RTCPeerConnection({ iceServers: this.#settings.iceServers });
        this.#connection = connection;
        connection.onicecandidate = ({ candidate }) => {
            if (candidate?.candidate) this.#settings.signal('signal:ice', candidate);
        };
        connection.onconnectionstatechange = () => {
            if (connection.connectionState === 'failed') this.#finish('the connection was lost');
        };
        return connection;
    }

    #attach(channel) {
        this.#channel = channel;
        const opened = () => {
            if (channel !== this.#channel || !this.#isPending) return;
            this.state = 'open';
            this.#open(this);
        };
        channel.onopen = opened;
        channel.onmessage = ({ data }) => this.#receive(data);
        channel.onclose = () => {
            // One that was given up for the peer's own is of no interest any more.
            if (channel === this.#channel) this.#finish(this.state === 'closing' ? 'you left' : 'the other side left');
        };
        if (channel.readyState === 'open') opened();
    }

    #receive(message) {
        let text;
        try {
            text = this.#cipher.open(message);
        } catch {
            this.#failures += 1;
            if (this.#failures === MAX_FAILURES) this.#finish('too many texts in a row could not be decrypted');
            return;
        }
        this.#failures = 0;
        this.dispatchEvent(new CustomEvent('message', { detail: text }));
    }

    #finish(reason) {
        if (this.state === 'closed') return;
        this.state = 'closed';
        this.#connection?.close();
        this.#cipher?.wipe();
        this.#own.secretKey.fill(0);
        this.#fail(new Error(reason));
        this.#end(reason);
        this.dispatchEvent(new CustomEvent('close', { detail: reason }));
    }
}

/** Candidates of a peer that are kept before they can be used. */
export const MAX_EARLY = 64;

/** The data channel's name. */
const CHANNEL = 'chat';

/** Texts in a row that may be unreadable. */
const MAX_FAILURES = 5;

/** How long a call may take to become a chat, and how long the last texts may take to arrive, in milliseconds. */
const OPEN_TIME = 60_000;
const CLOSE_TIME = 5_000;
