// A bad network between our programs and another implementation of WebRTC: a server that stands before a real one, and names each
// of the two a hop in the place of the other; and the hop, which loses what it is told to. It reads the descriptions and
// candidates, so it makes an old app of everybody, whose signals are in the clear.

import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { WebSocket, WebSocketServer } from 'ws';

/** An address of this machine that candidates are made of; browsers take none of loopback. */
export const here = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal)?.address;

/** Whether a datagram is part of a handshake of DTLS, and no data of an application (RFC 7983, section 7). */
export const isHandshake = ([first]) => first >= 20 && first < 64 && first !== 23;

export class Hop {
    #ends = new Map();
    #server;
    #sockets = new Set();

    /**
     * Stands before the server at `url`. The stack's user goes by this hop, and our programs go to the server itself.
     * @param {(to: 'stack'|'ours', datagram: Buffer) => boolean} arrives whether a datagram arrives
     */
    static async before(url, arrives) {
        const hop = new Hop();
        hop.arrives = arrives;
        hop.#server = new WebSocketServer({ host: here, port: 0 });
        await new Promise(resolve => hop.#server.on('listening', resolve));
        hop.url = `ws://${here}:${hop.#server.address().port}`;
        hop.#server.on('connection', (client, { url: path }) => hop.#join(client, new WebSocket(url + path)));
        return hop;
    }

    end() {
        for (const socket of this.#sockets) socket.terminate();
        this.#server.close();
        for (const { socket } of this.#ends.values()) socket.close();
        this.#ends.clear();
    }

    #join(client, server) {
        for (const socket of [client, server]) this.#sockets.add(socket);
        const waiting = [];
        // One message after another, since to make an end takes its time.
        const pass = (from, to, owner) => {
            let last = Promise.resolve();
            from.on('message', text => {
                last = last.then(async () => {
                    const changed = await this.#change(String(text), owner);
                    if (to.readyState === WebSocket.CONNECTING) waiting.push(changed);
                    else to.send(changed);
                });
            });
            from.on('close', () => to.close());
            from.on('error', () => to.terminate());
        };
        server.on('open', () => waiting.forEach(text => server.send(text)));
        pass(client, server, 'stack');
        pass(server, client, 'ours');
    }

    /** A signal of this owner's with the hop in the place of its addresses. */
    async #change(text, owner) {
        const message = JSON.parse(text);
        const { payload } = message;
        delete payload?.lowkey;
        if (typeof payload?.sdp === 'string') {
            const lines = payload.sdp.split('\r\n');
            const changed = await Promise.all(
                lines.map(line => (line.startsWith('a=candidate:') ? this.#instead(owner, line) : line)));
            payload.sdp = changed.filter(line => line !== null).join('\r\n');
        }
        if (payload?.candidate) payload.candidate = (await this.#instead(owner, payload.candidate)) ?? NOWHERE;
        return JSON.stringify(message);
    }

    /** A candidate line with the hop in it; `null` where that leads nowhere. */
    async #instead(owner, line) {
        const words = line.split(' ');
        if (words[2]?.toLowerCase() !== 'udp' || !/^[0-9.]+$/.test(words[4])) return null;
        const { socket } = await this.#end(words[4], Number(words[5]), owner);
        [words[4], words[5]] = [here, String(socket.address().port)];
        return words.join(' ');
    }

    /** The socket that stands for an address of this owner. */
    async #end(address, port, owner) {
        const key = `${address}:${port}`;
        if (!this.#ends.has(key)) {
            const socket = createSocket('udp4');
            const end = { socket, owner, bound: new Promise(resolve => socket.bind(0, here, resolve)) };
            this.#ends.set(key, end);
            socket.on('message', (datagram, from) => this.#carry(datagram, from, address, port, owner));
        }
        const end = this.#ends.get(key);
        await end.bound;
        return end;
    }

    async #carry(datagram, from, address, port, owner) {
        if (!this.arrives(owner, datagram)) return;
        const { socket } = await this.#end(from.address, from.port, owner === 'stack' ? 'ours' : 'stack');
        // The case may be over.
        if (this.#ends.size > 0) socket.send(datagram, port, address);
    }
}

/** A candidate that nobody answers at, since some programs take none that is empty. */
const NOWHERE = 'candidate:1 1 udp 1 192.0.2.254 9 typ host';
