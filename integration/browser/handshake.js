// The handshake of two peers of Lowkey's own kind: keys, proofs, hellos and frames (protocol 2.1 to 2.7), with X-Wing by
// @noble/post-quantum. No network in here.

import { expand, extract } from '@noble/hashes/hkdf.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { ml_kem768_x25519 as xwing } from '@noble/post-quantum/hybrid.js';
import { fromBase64, generateKeyPair, nacl, readKey, toBase64 } from './cipher.js';

const VERSION = 2;
const CALLER = 'caller';
const CALLED = 'called';

const utf8 = text => new TextEncoder().encode(text);

const joined = (...parts) => {
    const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
    let at = 0;
    for (const part of parts) {
        bytes.set(part, at);
        at += part.length;
    }
    return bytes;
};

/** A number as so many bytes, big-endian. */
const number = (value, length) => {
    const bytes = new Uint8Array(length);
    for (let at = length - 1; at >= 0; at--) {
        bytes[at] = value % 256;
        value = Math.floor(value / 256);
    }
    return bytes;
};

const readNumber = bytes => bytes.reduce((value, byte) => value * 256 + byte, 0);

/** SHA-512 of items, each behind its length. */
const digest = (...items) => sha512(joined(...items.flatMap(item => [number(item.length, 4), item])));

const derive = (secret, label, length = 32) => expand(sha512, secret, label, length);

/** Strict base64 of so many bytes. */
function read(text, length) {
    const bytes = fromBase64(text);
    if (bytes.length !== length) throw new Error(`${length} bytes are due`);
    return bytes;
}

/** The JSON of what is sealed in a signal, filled up with spaces so that its length tells little. */
function padded(inside) {
    const bytes = utf8(JSON.stringify(inside));
    const all = new Uint8Array(Math.ceil(bytes.length / PADDED_TO) * PADDED_TO).fill(0x20);
    all.set(bytes);
    return all;
}

/** Whether a `key:exchange` is a peer's of ours that calls, one's that answers, or an old app's. Throws for any other. */
export function kind({ publicKey, lowkey }) {
    readKey(publicKey);
    if (lowkey === undefined) return 'app';
    const { version, kem, ciphertext, answers } = lowkey ?? {};
    if (!Number.isInteger(version) || version < 2) throw new Error('no version');
    const isGreeting = kem !== undefined && ciphertext === undefined && answers === undefined;
    const isAnswer = kem === undefined && ciphertext !== undefined && answers !== undefined;
    if (isGreeting && read(kem, xwing.lengths.publicKey)) return 'greeting';
    if (isAnswer && read(ciphertext, xwing.lengths.cipherText) && readKey(answers)) return 'answer';
    throw new Error('neither a greeting nor an answer');
}

/** A caller's keys for one call. */
export class OwnKeys {
    constructor(pair = generateKeyPair(), seed = undefined) {
        this.pair = pair;
        this.kem = xwing.keygen(seed);
    }

    /** C1. */
    get greeting() {
        return { publicKey: toBase64(this.pair.publicKey), lowkey: { version: VERSION, kem: toBase64(this.kem.publicKey) } };
    }

    /** The caller's side, once it was answered (S1). Throws where that is an answer to another call. */
    agree(answer, caller, called) {
        if (answer.lowkey.answers !== toBase64(this.pair.publicKey)) throw new Error('an answer to another call');
        const shared = xwing.decapsulate(read(answer.lowkey.ciphertext, xwing.lengths.cipherText), this.kem.secretKey);
        this.kem.secretKey.fill(0);
        return new Agreement(CALLER, this.pair, answer.publicKey, transcript(this.greeting, answer, caller, called), shared);
    }
}

/** Answers a greeting: what to say (S1), and the called side's part. */
export function answer(greeting, caller, called, pair = generateKeyPair()) {
    const { cipherText, sharedSecret } = xwing.encapsulate(read(greeting.lowkey.kem, xwing.lengths.publicKey));
    const lowkey = { version: VERSION, ciphertext: toBase64(cipherText), answers: greeting.publicKey };
    const said = { publicKey: toBase64(pair.publicKey), lowkey };
    const agreement = new Agreement(CALLED, pair, greeting.publicKey, transcript(greeting, said, caller, called), sharedSecret);
    return { said, agreement };
}

/** T: all that was said in the open. */
function transcript(greeting, said, caller, called) {
    return digest(
        ...['lowkey 2', `${greeting.lowkey.version}`, `${said.lowkey.version}`, caller, called].map(utf8),
        readKey(greeting.publicKey), fromBase64(greeting.lowkey.kem),
        readKey(said.publicKey), fromBase64(said.lowkey.ciphertext),
    );
}

/** What both sides have in common once a call was greeted and answered. */
export class Agreement {
    #side;
    #own;
    #other;
    #transcript;
    #secret;

    constructor(side, own, other, transcript, shared) {
        [this.#side, this.#own, this.#other, this.#transcript] = [side, own, readKey(other), transcript];
        if (nacl.verify(this.#other, own.publicKey)) throw new Error('our own key');
        this.#secret = extract(sha512, joined(nacl.scalarMult(own.secretKey, this.#other), shared), transcript);
        shared.fill(0);
        /** What all signals behind the first hello are sealed with. */
        this.signals = new Boxes(...this.#sides.map(side => derive(this.#secret, utf8(`signals ${side}`))));
    }

    /** Our side first. */
    get #sides() {
        return this.#side === CALLER ? [CALLER, CALLED] : [CALLED, CALLER];
    }

    /** The other side's key for this call. */
    get otherKey() {
        return toBase64(this.#other);
    }

    #firstKey(shared) {
        if (!shared) return derive(this.#secret, utf8('hello caller'));
        return derive(extract(sha512, shared, this.#secret), utf8('hello known'));
    }

    /** Seals C2: for the holder of the identity `known`, or for whoever was called. */
    sealFirst(hello, known) {
        return seal(this.#firstKey(known && nacl.scalarMult(this.#own.secretKey, readKey(known))), hello);
    }

    /** What is in C2; `null` if it is none of this call. */
    openFirst(sealed, identity) {
        return unseal(this.#firstKey(nacl.scalarMult(identity.secretKey, this.#other)), sealed) ?? unseal(this.#firstKey(), sealed);
    }

    /** Our hello, as the bytes that are sealed. It carries on no chat. */
    hello(identity, first) {
        const proof = this.#proof(this.#side, identity.publicKey, nacl.scalarMult(identity.secretKey, this.#other), first);
        return padded({ hello: { identity: toBase64(identity.publicKey), proof: toBase64(proof), features: [], resume: null } });
    }

    /** The identity that the other side has proven, as base64. Throws if it has proven none. */
    readHello(inside, identity, first) {
        const { hello } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(inside));
        const shown = readKey(hello.identity);
        if (nacl.verify(shown, identity.publicKey)) throw new Error('our own identity');
        const [, other] = this.#sides;
        const proof = this.#proof(other, shown, nacl.scalarMult(this.#own.secretKey, shown), first);
        if (!nacl.verify(proof, read(hello.proof, PROOF_BYTES))) throw new Error('a false proof');
        return toBase64(shown);
    }

    #proof(side, shown, shared, first) {
        const items = [utf8('lowkey hello 2'), utf8(side), this.#transcript, shown, ...(side === CALLED ? [first] : [])];
        return derive(extract(sha512, shared, this.#transcript), joined(utf8('proof'), digest(...items)), PROOF_BYTES);
    }

    /** What texts are sealed with, once both hellos are known. What they were derived of is wiped. */
    conclude(first, second) {
        const hellos = digest(this.#transcript, first, second);
        const texts = new Boxes(...this.#sides.map(side => derive(this.#secret, joined(utf8(`texts ${side}`), hellos))));
        this.wipe();
        return texts;
    }

    wipe() {
        this.#own.secretKey.fill(0);
        this.#secret.fill(0);
    }
}

const seal = (key, bytes) => {
    const nonce = nacl.randomBytes(nacl.secretbox.nonceLength);
    return toBase64(joined(nonce, nacl.secretbox(bytes, nonce, key)));
};

const unseal = (key, sealed) => {
    const bytes = fromBase64(sealed);
    if (bytes.length < nacl.secretbox.nonceLength) return null;
    return nacl.secretbox.open(bytes.subarray(nacl.secretbox.nonceLength), bytes.subarray(0, nacl.secretbox.nonceLength), key);
};

/** The boxes of one call for one use, with a key for each direction. */
export class Boxes {
    #send;
    #receive;
    #taken = new Set();

    constructor(send, receive) {
        [this.#send, this.#receive] = [send, receive];
    }

    seal(bytes) {
        return seal(this.#send, bytes);
    }

    /** Seals what is said in a signal. */
    signal(inside) {
        return { sealed: this.seal(padded(inside)) };
    }

    /** What is in a box; `null` for what is forged or played back, or no box at all. */
    open(sealed) {
        let opened = null;
        try {
            opened = unseal(this.#receive, sealed);
        } catch {}
        if (!opened || this.#taken.has(sealed)) return null;
        this.#taken.add(sealed);
        return opened;
    }

    wipe() {
        this.#send.fill(0);
        this.#receive.fill(0);
    }
}

/** Texts with their numbers, of which each side says what it has taken. All that comes counts as taken at once. */
export class Frames {
    #boxes;
    #longest;
    #sent = 0;
    #received = 0;
    #acknowledged = 0;

    /** `maxMessage`: the most bytes that the other side takes at once. */
    constructor(boxes, maxMessage) {
        this.#boxes = boxes;
        this.#longest = Math.floor(maxMessage / 4) * 3 - BOX_EXTRA_BYTES;
    }

    /** Whether the other side has taken all. */
    get isAcknowledged() {
        return this.#acknowledged === this.#sent;
    }

    /** One message for the data channel. Throws where the text is too long. */
    text(text) {
        const bytes = utf8(text);
        const length = TEXT_EXTRA_BYTES + bytes.length;
        if (length > this.#longest) throw new Error('the text is too long');
        this.#sent += 1;
        const frame = new Uint8Array(Math.max(length, Math.min(framed(length), this.#longest)));
        frame.set(joined([TEXT], number(this.#received, 8), number(this.#sent, 8), number(bytes.length, 4), bytes));
        return this.#boxes.seal(frame);
    }

    /** Says no more than how far we are; `leave` that the chat is over too. */
    taken(kind = TAKEN) {
        return this.#boxes.seal(joined([kind], number(this.#received, 8)));
    }

    leave() {
        return this.taken(LEAVE);
    }

    /** What a message of the data channel is: `{text}` if there is a new one, `{left: true}` at the end. Throws for what does not open. */
    read(message) {
        const frame = this.#boxes.open(message);
        if (!frame || frame.length < 9) throw new Error('no frame');
        const [kind] = frame;
        this.#acknowledged = Math.max(this.#acknowledged, Math.min(readNumber(frame.subarray(1, 9)), this.#sent));
        if (frame.length === 9 && kind === TAKEN) return {};
        if (frame.length === 9 && (kind === LEAVE || kind === STOP)) return { left: true };
        if (kind !== TEXT || frame.length < TEXT_EXTRA_BYTES) throw new Error('no frame');
        const [count, length] = [readNumber(frame.subarray(9, 17)), readNumber(frame.subarray(17, 21))];
        const [bytes, zeros] = [frame.subarray(21, 21 + length), frame.subarray(21 + length)];
        if (bytes.length !== length || zeros.some(byte => byte !== 0) || count > this.#received + 1) throw new Error('no text');
        const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        if (count <= this.#received) return {};
        this.#received = count;
        return { text };
    }

    wipe() {
        this.#boxes.wipe();
    }
}

/** Sixty digits that are the same on both screens if nobody is in between; the identities as base64. */
export function safetyNumber([identity, name], [otherIdentity, otherName]) {
    const half = (identity, name) => {
        const key = fromBase64(identity);
        let hash = joined([0, 0], key, utf8(name));
        for (let round = 0; round < 5200; round++) hash = sha512(joined(hash, key));
        const group = at => String(readNumber(hash.subarray(at, at + 5)) % 100_000).padStart(5, '0');
        return [0, 5, 10, 15, 20, 25].map(group).join(' ');
    };
    return [half(identity, name), half(otherIdentity, otherName)].sort().join(' ');
}

/** The kinds of frames. */
const [TEXT, TAKEN, LEAVE, STOP] = [1, 2, 3, 4];

/** How much longer a box is than what is in it, and the shortest frame of a text than the text. */
const BOX_EXTRA_BYTES = 24 + 16;
const TEXT_EXTRA_BYTES = 21;

/** How long a frame of a text of so many bytes is made: a power of two, and beyond 4 KiB in eighths of the last one. */
function framed(length) {
    const step = length <= COARSE ? 2 ** Math.ceil(Math.log2(length)) : 2 ** Math.floor(Math.log2(length)) / STEPS;
    return Math.max(SHORTEST, Math.ceil(length / step) * step);
}

const SHORTEST = 256;
const COARSE = 4096;
const STEPS = 8;

const PROOF_BYTES = 64;
const PADDED_TO = 384;
