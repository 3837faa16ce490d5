// A real server and what is between it and its clients, for the tests.

import { spawn } from "node:child_process";
import { webcrypto } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { SalonClient } from "../../app/chat/static/salon-client/salon-client.js";
import { WebSocket } from "./websocket.mjs";

globalThis.crypto ??= webcrypto;

export const DEADLINE = 60_000; // ms that something may take on a busy machine

export class Server {
  #process;
  #lines;
  #queue = Promise.resolve();

  static async start() {
    const server = new Server();
    const python = process.env.PYTHON ?? "python";
    const script = fileURLToPath(new URL("server.py", import.meta.url));
    server.#process = spawn(python, [script], { stdio: ["pipe", "pipe", "inherit"] });
    server.#lines = createInterface({ input: server.#process.stdout })[Symbol.asyncIterator]();
    server.port = (await server.#answer()).port;
    return server;
  }

  async #answer() {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("The server has ended.");
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  /** `tell("manage", "create_room", …)`, `tell("kill")`, `tell("terminate")`, `tell("start")`; what it prints. */
  tell(...command) {
    const asked = this.#queue.then(async () => {
      this.#process.stdin.write(`${JSON.stringify(command)}\n`);
      return (await this.#answer()).output;
    });
    this.#queue = asked.catch(() => {});
    return asked;
  }

  manage(...command) {
    return this.tell("manage", ...command);
  }

  /** Run lines of Python in the server's own surroundings; what they print. */
  python(code) {
    return this.manage("shell", "--command", code);
  }

  async stop() {
    this.#process.stdin.end();
    await once(this.#process, "exit");
  }

  async person(username, role = "student") {
    const id = Number(await this.manage("create_user", username, "--role", role, "--name", `${username} Somebody`));
    return { id, username, token: await this.manage("create_token", username) };
  }

  async room(name, ...people) {
    return Number(await this.manage("create_room", name, ...people.flatMap(({ username }) => ["--member", username])));
  }
}

/** A link that can be slow, cut, or dead without a word. */
export class Proxy {
  delay = 0;
  connections = 0;
  arrivals = [];
  #isStalled = false;
  #isRefusing = false;
  #pairs = new Set();

  static async to(port) {
    const proxy = new Proxy();
    proxy.#server = createServer((client) => proxy.#pair(client, port));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.port = proxy.#server.address().port;
    return proxy;
  }

  #server;

  #pair(client, port) {
    this.arrivals.push(Date.now());
    if (this.#isRefusing) {
      client.destroy();
      return;
    }
    this.connections++;
    const server = connect(port, "localhost");
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      from.setNoDelay(true);
      from.on("data", (data) => {
        if (this.#isStalled) return;
        if (this.delay) setTimeout(() => !to.destroyed && to.write(data), this.delay);
        else if (!to.destroyed) to.write(data);
      });
      from.on("end", () => setTimeout(end, this.delay));
      from.on("error", end);
      from.on("close", () => setTimeout(end, this.delay));
    }
  }

  /** Both ends hear nothing any more, and nobody closes. */
  stall() {
    this.#isStalled = true;
  }

  /** End all connections at once. */
  cut() {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
  }

  refuse() {
    this.#isRefusing = true;
    this.cut();
  }

  heal() {
    this.#isStalled = this.#isRefusing = false;
    // What was lost on the way cannot be taken up again.
    this.cut();
  }

  close() {
    this.cut();
    this.#server.close();
  }
}

/** A client with what it was told. */
export function client(port, person, options = {}) {
  const salon = new SalonClient({
    url: `ws://localhost:${port}/ws/chat/`,
    token: person?.token ?? null,
    userId: person?.id ?? null,
    WebSocket,
    ...options,
  });
  const told = { messages: [], states: [], ends: [], errors: [], gaps: [], refused: [] };
  salon.on("message", ({ room, message, isLive }) => told.messages.push({ room: room.id, ...message, isLive }));
  salon.on("state", ({ state }) => told.states.push(state));
  salon.on("end", (event) => told.ends.push(event));
  salon.on("error", (event) => told.errors.push(event));
  salon.on("gap", (event) => told.gaps.push(event));
  salon.on("refused", (event) => told.refused.push(event));
  return { salon, told };
}

export async function until(condition, what, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`In vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const connected = (salon) => until(() => salon.state === "connected", "to be connected");
export const joined = (room) => until(() => room.isJoined, "to be in the room");
