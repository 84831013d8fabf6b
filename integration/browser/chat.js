// One chat, from the call to its end: the steps of the protocol, and the browser's WebRTC. It knows no server: what is to be sent to
// the peer by way of one goes out through `signal`, and what came that way comes in through `handle`.

import { Cipher, toBase64 } from './cipher.js';
import { Frames, OwnKeys, answer, kind, safetyNumber } from './handshake.js';

/**
 * A chat with somebody. Events:
 * - `message`: a text has come; `detail` is the text;
 * - `close`: the chat is over; `detail` says why.
 */
export class Chat extends EventTarget {
    #settings;
    #isInitiator;
    #own = new OwnKeys();
    /** With a peer of our own kind, from its answer on; what signals are sealed with, and the caller's hello. */
    #agreement;
    #signals;
    #first;
    /** What texts are sealed with: `Frames`, and `Boxes` before the channel is open; a `Cipher` with an old app. */
    #texts;
    /** The other side has said its last frame. */
    #hasLeft = false;
    #connection;
    #channel;
    /** Candidates that came before the peer's description; `null` from then on. */
    #early = [];
    #failures = 0;
    #open;
    #fail;
    #end;

    /** For lowkey.js; see `Lowkey.call` and `Request.accept` there. */
    constructor({ peer, isInitiator, ...settings }) {
        super();
        /** Who it is with. */
        this.peer = peer;
        /** Who they have proven to be, as base64; `null` of an old app, which proves nothing. */
        this.identity = null;
        /** `calling`, `greeting`, `greeted`, `hello`, `connecting`, `open`, `closing` or `closed`. */
        this.state = 'calling';
        /** Fulfilled with this chat once it is open, or rejected with an `Error` that says why it never will be. */
        this.opened = new Promise((resolve, reject) => ([this.#open, this.#fail] = [resolve, reject]));
        // Whoever wants to hear of it asks.
        this.opened.catch(() => {});
        /** Fulfilled with the reason once it is over. */
        this.closed = new Promise(resolve => (this.#end = resolve));
        this.#isInitiator = isInitiator;
        this.#settings = settings;
        setTimeout(() => this.#isPending && this.#finish(this.#overdue), OPEN_TIME);
    }

    /** Sixty digits, the same on both screens if nobody is in between; `null` with an old app. */
    get safetyNumber() {
        const { identity, username } = this.#settings;
        return this.identity && safetyNumber([toBase64(identity.publicKey), username], [this.identity, this.peer]);
    }

    /** Sends a text. Throws an `Error` where the chat is not open, or the text longer than the other side takes. */
    send(text) {
        if (this.state !== 'open') throw new Error('the chat is not open');
        if (this.#texts instanceof Frames) return this.#channel.send(this.#texts.text(text));
        const message = this.#texts.seal(text);
        if (message.length > this.#connection.sctp.maxMessageSize) throw new Error('the text is too long');
        this.#channel.send(message);
    }

    /** Ends the chat once all that was sent has arrived. */
    close() {
        if (this.state !== 'open') return this.leave();
        this.state = 'closing';
        setTimeout(() => this.#finish('you left'), CLOSE_TIME);
        if (this.#texts instanceof Frames) {
            this.#channel.send(this.#texts.leave());
            return this.#closeIfRead();
        }
        // The browser sends what waits before it closes the channel, and both are gone with the connection.
        this.#channel.close();
    }

    /** Ends the chat at once, whatever was not sent yet. */
    leave() {
        if (this.state === 'open' && this.#texts instanceof Frames) this.#channel.send(this.#texts.leave());
        else if (this.#isPending) this.#tell({ refused: 'declined' });
        this.#finish('you left');
    }

    /** For lowkey.js: takes what the server or the peer said. Returns whether it was due. */
    handle(type, payload) {
        const { state } = this;
        let inside = payload;
        if (type.startsWith('signal:')) {
            inside = this.#unseal(type, payload);
            if (!inside) return false;
            if (inside.refused) type = 'refused';
        }
        const steps = {
            'session:joined': [state === 'calling', this.#greet],
            'key:exchange': [this.#takesKey(payload), this.#receiveKey],
            hello: [state === 'hello' || state === 'greeted', this.#receiveHello],
            'signal:offer': [state === 'connecting' && this.#early && this.#takesOffer, this.#answer],
            'signal:answer': [state === 'connecting' && this.#early && this.#isInitiator, this.#describe],
            'signal:ice': [['connecting', 'open'].includes(state), this.#addCandidate],
            refused: [this.#isPending, ({ refused }) => this.#finish(REFUSALS[refused] ?? 'declined')],
            // A word in the open is an old app's, or of one that may be one still.
            'session:decline': [this.#isPending && !this.#agreement, () => this.#finish('declined')],
            error: [this.#isPending, ({ message }) => this.#finish(message)],
        };
        const [isDue, step] = steps[inside instanceof Uint8Array ? 'hello' : type] ?? [];
        if (!isDue) return false;
        (async () => step.call(this, inside))().catch(error => this.#finish(error.message));
        return true;
    }

    get #isPending() {
        return !['open', 'closing', 'closed'].includes(this.state);
    }

    /** A greeting counts until both know who they are: who has answered us and calls now has begun anew. */
    #takesKey(exchange) {
        const isGreeting = exchange?.lowkey?.kem !== undefined;
        return ['calling', 'greeting'].includes(this.state) || (['hello', 'greeted'].includes(this.state) && isGreeting);
    }

    get #overdue() {
        const isKnown = this.#settings.known[this.peer];
        return this.state === 'hello' && isKnown ? 'no answer: they are away, or not who they were' : 'no answer within a minute';
    }

    /** Both may have called at once, and an old app knows no rule for that: the smaller name goes first. */
    get #takesOffer() {
        return !this.#isInitiator || (!this.#signals && this.peer < this.#settings.username);
    }

    /**
     * What is in a signal of this chat: the bytes of a hello, or what else is said; `null` for what is not of this chat. With an old app
     * nothing is sealed, and with a peer of our own kind all.
     */
    #unseal(type, payload) {
        if (!this.#signals) return payload?.sealed === undefined && this.#texts ? payload : null;
        const sealed = payload?.sealed;
        if (typeof sealed !== 'string') return null;
        try {
            if (this.state === 'greeted') return type === 'signal:ice' ? this.#agreement.openFirst(sealed, this.#settings.identity) : null;
            const bytes = this.#signals.open(sealed);
            if (!bytes) return null;
            const inside = JSON.parse(new TextDecoder().decode(bytes));
            if (inside.hello) return type === 'signal:ice' ? bytes : null;
            return inside;
        } catch {
            return null;
        }
    }

    /** Tells the peer something: sealed, but for an old app. */
    #tell(inside, type = 'signal:ice') {
        if (this.#signals) this.#settings.signal(type, this.#signals.signal(inside));
        else if (inside.refused) this.#settings.signal('session:decline');
        else this.#settings.signal(type, inside);
    }

    #greet() {
        this.state = 'greeting';
        this.#settings.signal('key:exchange', this.#own.greeting);
    }

    #receiveKey(exchange) {
        const { username, known, identity } = this.#settings;
        const said = kind(exchange);
        if (said === 'greeting') {
            // They have called us just when we called them, which is consent enough.
            const isFirst = ['calling', 'greeting'].includes(this.state) && username < this.peer;
            if (isFirst || this.#agreement?.otherKey === exchange.publicKey) return;
            const { said, agreement } = answer(exchange, this.peer, username);
            this.#settings.signal('key:exchange', said);
            this.await(agreement);
        } else if (said === 'answer') {
            // One to another greeting belongs to an earlier call.
            if (exchange.lowkey.answers !== this.#own.greeting.publicKey) return;
            this.#agree(this.#own.agree(exchange, username, this.peer), 'hello');
            this.#first = this.#agreement.hello(identity);
            this.#settings.signal('signal:ice', { sealed: this.#agreement.sealFirst(this.#first, known[this.peer]) });
        } else {
            this.#meetApp(exchange);
        }
    }

    #agree(agreement, state) {
        [this.#agreement, this.#signals, this.state] = [agreement, agreement.signals, state];
    }

    /** An old app has answered, or calls. It proves nothing, and may be the server. */
    #meetApp({ publicKey }) {
        const { oldApps, known, textFormat } = this.#settings;
        if (!oldApps || known[this.peer]) {
            this.#tell({ refused: 'declined' });
            return this.#finish(known[this.peer] ? 'they are not who they were' : 'an old app, which cannot prove who they are');
        }
        if (this.state === 'calling') this.#greet();
        this.#texts = new Cipher(this.#own.pair, publicKey, textFormat);
        this.state = 'connecting';
        if (this.#isInitiator) return this.#offer();
    }

    /** For lowkey.js: takes the call of an old app. */
    acceptApp(exchange) {
        this.#settings.signal('key:exchange', { publicKey: this.#own.greeting.publicKey });
        this.state = 'greeting';
        this.#meetApp(exchange);
    }

    /** For lowkey.js: somebody calls whom we call too, and is answered; our call is the consent to theirs. */
    await(agreement) {
        this.#isInitiator = false;
        this.#agreement?.wipe();
        this.#agree(agreement, 'greeted');
    }

    /** For lowkey.js: takes the call of somebody who has proven who they are. */
    accept({ agreement, first, identity }) {
        this.#agree(agreement, 'greeted');
        this.#first = first;
        this.#meet(identity);
    }

    /** The other side's hello, which proves who they are: of who called, where both did, or of who was called. */
    #receiveHello(bytes) {
        const { known, identity } = this.#settings;
        const isAnswer = this.state === 'hello';
        const shown = this.#agreement.readHello(bytes, identity, isAnswer ? this.#first : undefined);
        if (known[this.peer] && known[this.peer] !== shown) {
            // Who calls is told nothing of whom we know.
            if (isAnswer) this.#tell({ refused: 'identity' });
            throw new Error('they are not who they were');
        }
        if (!isAnswer) this.#first = bytes;
        this.#meet(shown, isAnswer && bytes);
    }

    /** Both know who they are; `second` is the hello of who was called, which is ours where there is none. */
    #meet(shown, second) {
        const { identity, met } = this.#settings;
        this.identity = shown;
        met(shown);
        const own = second || this.#agreement.hello(identity, this.#first);
        if (!second) this.#settings.signal('signal:ice', { sealed: this.#signals.seal(own) });
        this.#texts = this.#agreement.conclude(this.#first, own);
        this.state = 'connecting';
        if (this.#isInitiator) return this.#offer();
    }

    async #offer() {
        const connection = this.#connect();
        this.#attach(connection.createDataChannel(CHANNEL));
        await connection.setLocalDescription();
        this.#tell(connection.localDescription, 'signal:offer');
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
        this.#tell(connection.localDescription, 'signal:answer');
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
            if (candidate?.candidate && this.state !== 'closed') this.#tell(candidate);
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
            if (this.#agreement) {
                // Not every implementation says what the other side takes; what it takes by default is in RFC 8841, section 6.1.
                this.#texts = new Frames(this.#texts, this.#connection.sctp?.maxMessageSize || DEFAULT_MAX_MESSAGE);
                channel.send(this.#texts.taken());
            }
            this.state = 'open';
            this.#open(this);
        };
        channel.onopen = opened;
        channel.onmessage = ({ data }) => this.#receive(data);
        channel.onclose = () => {
            // One that was given up for the peer's own is of no interest any more. Who is of our own kind says so before they leave.
            const end = this.#agreement && !this.#hasLeft ? 'the connection was lost' : 'the other side left';
            if (channel === this.#channel) this.#finish(this.state === 'closing' ? 'you left' : end);
        };
        if (channel.readyState === 'open') opened();
    }

    #receive(message) {
        let read;
        try {
            read = this.#agreement ? this.#texts.read(message) : { text: this.#texts.open(message) };
        } catch {
            this.#failures += 1;
            if (this.#failures === MAX_FAILURES) this.#finish('too many texts in a row could not be decrypted');
            return;
        }
        this.#failures = 0;
        const { text, left } = read;
        if (text !== undefined) this.dispatchEvent(new CustomEvent('message', { detail: text }));
        if (this.#agreement) {
            // Who has left waits for this, and then closes the connection.
            if ((text !== undefined || left) && this.#channel.readyState === 'open') this.#channel.send(this.#texts.taken());
            if (left && !this.#hasLeft) {
                this.#hasLeft = true;
                setTimeout(() => this.#finish('the other side left'), CLOSE_TIME);
            }
            this.#closeIfRead();
        }
    }

    /** Closes the connection once the other side has taken all that was sent before we left. */
    #closeIfRead() {
        if (this.state === 'closing' && this.#texts.isAcknowledged) this.#channel.close();
    }

    #finish(reason) {
        if (this.state === 'closed') return;
        this.state = 'closed';
        // What was sent last is on its way.
        setTimeout(() => this.#connection?.close(), LAST_TIME);
        this.#texts?.wipe();
        this.#signals?.wipe();
        this.#agreement?.wipe();
        this.#own.pair.secretKey.fill(0);
        this.#fail(new Error(reason));
        this.#end(reason);
        this.dispatchEvent(new CustomEvent('close', { detail: reason }));
    }
}

/** What is said of a call that the other side has refused. */
const REFUSALS = {
    declined: 'declined',
    proof: 'the proof of who you are did not hold: somebody may be in between',
    identity: 'they know you by another identity',
    description: 'no connection could be made of what this browser offers',
};

/** Candidates of a peer that are kept before they can be used. */
export const MAX_EARLY = 64;

/** The data channel's name. */
const CHANNEL = 'chat';

/** What an end of a data channel takes at once that says nothing of it, in bytes. */
const DEFAULT_MAX_MESSAGE = 65_536;

/** Texts in a row that may be unreadable. */
const MAX_FAILURES = 5;

/** How long a call may take to become a chat, the last texts to arrive, and a last word to go out, in milliseconds. */
const OPEN_TIME = 60_000;
const CLOSE_TIME = 5_000;
const LAST_TIME = 100;
