// Other implementations of WebRTC for Node.js, each as a browser has its own, so that lowkey.js runs on all of them.

import { RTCPeerConnection as LibDataChannel } from 'node-datachannel/polyfill';
import { RTCPeerConnection as Werift } from 'werift';
import WebSocket from 'ws';

/** By the name of what is under each. */
export const stacks = { libdatachannel: LibDataChannel, werift: Werift };

// What of a browser's lowkey.js counts on.
globalThis.WebSocket = WebSocket;
globalThis.CustomEvent ??= class extends Event {
    constructor(type, { detail }) {
        super(type);
        this.detail = detail;
    }
};
globalThis.addEventListener ??= () => {};
