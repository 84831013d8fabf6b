// NaCl box for one chat with an old app: both text formats of the protocol. No network in here.

// A bundler gives the module's exports; a browser runs the same file as a script that sets `nacl`.
import * as tweetnacl from 'tweetnacl';

export const nacl = tweetnacl.default ?? globalThis.nacl;

/** A fresh pair `{publicKey, secretKey}` of X25519 keys, 32 bytes each. */
export const generateKeyPair = () => nacl.box.keyPair();

/** Standard base64, with padding, of an array of bytes. */
export function toBase64(bytes) {
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}

/** Reads standard base64 with padding, and throws an `Error` for anything else. */
export function fromBase64(text) {
    const bytes = Uint8Array.from(atob(text), digit => digit.charCodeAt(0));
    // `atob` is lenient with spaces, padding and left-over bits; two spellings of one text are one too many here.
    if (toBase64(bytes) !== text) throw new Error('not strict base64');
    return bytes;
}

/** The bytes of a peer's key. Throws an `Error` if it is malformed or of low order. */
export function readKey(base64) {
    const key = fromBase64(base64);
    if (key.length !== nacl.box.publicKeyLength) throw new Error('a key has 32 bytes');
    // The top bit means nothing, so that keys are compared without it.
    key[31] &= 0x7f;
    // A key of low order gives a shared secret of zeros with any other, which nobody would notice.
    if (nacl.scalarMult(generateKeyPair().secretKey, key).every(byte => byte === 0)) throw new Error('a key of low order');
    return key;
}

/**
 * The cipher between our session pair and a peer's session key. Texts are sent in `format` ('v1' or 'v2') at first, and in v2
 * as soon as a v2 text has come.
 */
export class Cipher {
    #own;
    #peer;
    #format;
    #follows = false;
    #seen = new Set();

    /** Takes the peer's key as base64. Throws an `Error` if it is malformed, of low order, or our own. */
    constructor(own, peerKey, format) {
        this.#own = [own];
        this.#peer = this.#readKey(peerKey);
        this.#format = format;
    }

    /** One message for the data channel: `base64(nonce ‖ box)`, for v2 in `{rk, ct}`. */
    seal(text) {
        if (this.#follows) {
            // The peer has changed its key, so we change ours. Texts for the older ones may still be on their way.
            this.#follows = false;
            this.#own.unshift(generateKeyPair());
            for (const old of this.#own.splice(KEPT_PAIRS)) old.secretKey.fill(0);
        }
        const [own] = this.#own;
        const nonce = nacl.randomBytes(nacl.box.nonceLength);
        const box = nacl.box(new TextEncoder().encode(text), nonce, this.#peer, own.secretKey);
        this.#seen.add(toBase64(nonce));
        const sealed = toBase64([...nonce, ...box]);
        return this.#format === 'v1' ? sealed : JSON.stringify({ rk: toBase64(own.publicKey), ct: sealed });
    }

    /**
     * The text in a message of the data channel. Throws an `Error` for what is malformed, forged or played back, and nothing has
     * changed then.
     */
    open(message) {
        const v2 = message.startsWith('{') ? JSON.parse(message) : null;
        const peer = v2 ? this.#readKey(v2.rk) : this.#peer;
        const bytes = fromBase64(v2 ? v2.ct : message);
        const nonce = bytes.subarray(0, nacl.box.nonceLength);
        const box = bytes.subarray(nacl.box.nonceLength);
        // The box of two keys is the same in both directions: our own texts could be played back to us.
        if (this.#seen.has(toBase64(nonce))) throw new Error('played back');
        const opened = this.#own.map(own => nacl.box.open(box, nonce, peer, own.secretKey)).find(opened => opened);
        if (!opened) throw new Error('forged');
        const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(opened);
        this.#seen.add(toBase64(nonce));
        if (v2) this.#format = 'v2';
        if (!nacl.verify(peer, this.#peer)) {
            this.#peer = peer;
            this.#follows = true;
        }
        return text;
    }

    /** Overwrites the secret keys. */
    wipe() {
        for (const own of this.#own) own.secretKey.fill(0);
    }

    #readKey(base64) {
        const key = readKey(base64);
        if (this.#own.some(own => nacl.verify(own.publicKey, key))) throw new Error('our own key');
        return key;
    }
}

/** Own pairs that are kept, for texts that cross with a change of keys. */
const KEPT_PAIRS = 4;
