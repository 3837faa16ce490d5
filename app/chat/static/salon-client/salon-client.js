// A client of Salon's WebSocket and HTTP API: one ES module without dependencies, for browsers and for Node.
//
// It keeps one connection, hears any number of rooms over it, hands on each message once and in the room's order, and
// keeps what is sent until the server has it. See docs/frontend.md, and salon-client.d.ts for every type.

export const VERSION = "1.0.0";

const READ_AS_DONE = 1000; // RFC 6455: the server says that it is over
const SERVICE_RESTART = 1012; // IANA's registry of close codes: come back at once
const UNAUTHENTICATED = 4401;
const SLOW_READER = 4408;

const RESTART_SPREAD = 1000; // ms over which clients come back after a restart
const BASE_DELAY = 1000; // ms; doubled with each failed attempt
const LONGEST_DELAY = 30_000; // ms
const CONNECT_TIMEOUT = 10_000; // ms until a handshake that does not come about is given up
const QUIET_FOR = 5000; // ms without a frame after which the server is asked for one
const HIDDEN_QUIET_FOR = 25_000; // ms; of a page that nobody looks at, below the minute of a proxy
const PONG_TIMEOUT = 4000; // ms until a link that says nothing is dead: with the line above less than ten seconds
const LONGEST_PONG_TIMEOUT = 32_000; // ms; on a link so slow that an answer takes longer
const ANSWER_TIMEOUT = 15_000; // ms until a message without an answer is sent again under its name
const TYPING_REPEAT = 2500; // ms; the server lets it lapse after five seconds
const TYPING_ENDS_AFTER = 3000; // ms after the last key
const AWAY_AFTER = 60_000; // ms for which nobody has looked at the page
const REMEMBERED = 1000; // uuids of a room
const MAX_TOKEN_ATTEMPTS = 2; // fresh tokens in a row that are refused

const PASSING = new Set(["unavailable", "rate_limited", "internal"]);
const ABOUT_THE_TOKEN = new Set(["invalid_token", "token_expired", "revoked", "not_authenticated"]);

/** Why a call of the HTTP API failed, or why a message could not be sent. */
export class SalonError extends Error {
  constructor(message, { code = "network", status = 0, retryAfter = null, cause } = {}) {
    super(message, { cause });
    this.name = "SalonError";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same may work later. */
  get isPassing() {
    return this.status === 0 ? this.code === "network" || PASSING.has(this.code) : this.status === 429 || this.status >= 500;
  }
}

/** The address of the WebSocket, and of the HTTP API, of the four variables that a frontend is configured with. */
export function addresses({ host, protocol = "wss", api } = {}) {
  return { url: `${protocol}://${host}/ws/chat/`, api: api || `${protocol === "ws" ? "http" : "https"}://${host}` };
}

/** A name for a message, by which the server knows it when it comes twice. */
export function clientId() {
  // Only pages that came over https have randomUUID.
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Emitter {
  #listeners = new Map();

  /** Call `listener` at each event of a type; returns a function that ends it. */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (!listeners) this.#listeners.set(type, (listeners = new Set()));
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /** The same, for the next event only. */
  once(type, listener) {
    const off = this.on(type, (event) => {
      off();
      listener(event);
    });
    return off;
  }

  _emit(type, event) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // What a listener does wrong is no reason for the connection to miss the rest.
        console.error(`salon: a listener of "${type}" failed`, error);
      }
    }
  }
}

/** A room that this client hears. Made by `SalonClient.join`. */
export class Room {
  /** The number of the newest message that was handed on; null until the first answer. */
  lastSeq = null;
  /** The people who type now: their names by their ids. */
  typing = new Map();
  /** Whether its events arrive. */
  isJoined = false;

  #client;
  #early = new Map();
  #seen = new Set();
  #typingSentAt = 0;
  #typingTimer = null;

  constructor(client, id, { since = null, history = 50 } = {}) {
    this.#client = client;
    this.id = id;
    this.history = history;
    this.lastSeq = since;
  }

  /** Say something; it is kept and sent until the server has it. */
  send(content, options) {
    this.stopTyping();
    return this.#client._send(this.id, content, options);
  }

  /** To be called at each key: tells the others that she types, and that she has stopped three seconds later. */
  startTyping() {
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => this.stopTyping(), TYPING_ENDS_AFTER);
    const now = Date.now();
    if (now - this.#typingSentAt < TYPING_REPEAT) return;
    if (this.#client._event("typing", { room_id: this.id, is_typing: true })) this.#typingSentAt = now;
  }

  stopTyping() {
    clearTimeout(this.#typingTimer);
    if (!this.#typingSentAt) return;
    this.#typingSentAt = 0;
    this.#client._event("typing", { room_id: this.id, is_typing: false });
  }

  /** Everything up to the newest message, or up to `seq`, is read. */
  markRead(seq = this.lastSeq) {
    if (seq) this.#client._markRead(this.id, seq);
  }

  /** Hear the room no more. The membership stays: that is the HTTP API's. */
  leave() {
    this.#client._leave(this);
  }

  _joining() {
    this.isJoined = false;
    const wanted = this.lastSeq === null ? { history: this.history } : { since: this.lastSeq };
    return { room_id: this.id, ...wanted };
  }

  _disconnected() {
    this.isJoined = false;
    this.#typingSentAt = 0;
    clearTimeout(this.#typingTimer);
    this.#early.clear();
    if (this.typing.size) {
      this.typing.clear();
      this.#client._emit("typing", { room: this, names: [] });
    }
  }

  _history(data) {
    const first = data.messages[0]?.seq;
    if (this.lastSeq === null) {
      this.lastSeq = first === undefined ? data.last_seq : first - 1;
    } else if (first !== undefined && first > this.lastSeq + 1) {
      this.#client._emit("gap", { room: this, after: this.lastSeq, before: first, next: data.next });
      this.lastSeq = first - 1;
    }
    for (const message of data.messages) this._message(message, false);
    for (const message of data.changed) this.#client._emit("changed", { room: this, message });
    if (!data.complete) return;
    // The server says which is the newest: whoever says that she has seen more was at another database.
    this.lastSeq = data.messages.length ? this.lastSeq : Math.min(this.lastSeq, data.last_seq);
    this.isJoined = true;
    this.#deliverEarly();
    this.#client._emit("joined", { room: this, missed: data.missed });
  }

  _message(message, isLive) {
    if (this.lastSeq === null && !this.isJoined) {
      // A receipt for what was sent before the room is joined; the history brings it in its place.
      return;
    }
    if (message.seq <= this.lastSeq || this.#seen.has(message.uuid)) {
      this.#client._log("double", message.uuid);
      return;
    }
    if (message.seq > this.lastSeq + 1) {
      // It came before others: those are asked for.
      if (!this.#early.size && this.isJoined) this.#client._fill(this);
      this.#early.set(message.seq, message);
      return;
    }
    this.#deliver(message, isLive);
    this.#deliverEarly();
  }

  #deliverEarly() {
    for (let next; (next = this.#early.get(this.lastSeq + 1)); ) {
      this.#early.delete(next.seq);
      this.#deliver(next, true);
    }
    for (const seq of this.#early.keys()) if (seq <= this.lastSeq) this.#early.delete(seq);
  }

  #deliver(message, isLive) {
    this.lastSeq = message.seq;
    this.#seen.add(message.uuid);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
    if (this.typing.delete(message.sender)) this.#client._emit("typing", { room: this, names: [...this.typing.values()] });
    this.#client._emit("message", { room: this, message, isLive });
  }

  _typing({ user_id, user_name, is_typing }) {
    if (is_typing) this.typing.set(user_id, user_name);
    else this.typing.delete(user_id);
    this.#client._emit("typing", { room: this, names: [...this.typing.values()] });
  }
}

/**
 * One person at one Salon.
 *
 * `state` is one of `idle` (not started), `connecting`, `connected`, `waiting` (for the next attempt), `offline`,
 * `closed` (by `close`, or because the server does not want this person: see the event `end`).
 */
export class SalonClient extends Emitter {
  state = "idle";
  /** The rooms that are heard, by id. */
  rooms = new Map();
  /** How present others are: `{status, last_seen}` by their ids. */
  presence = new Map();
  /** What was sent and is not stored yet, oldest first. */
  outbox = [];

  #options;
  #socket = null;
  #generation = 0;
  #token = null;
  #tokenAttempts = 0;
  #isInAddress = false;
  #attempt = 0;
  #retryAfter = 0;
  #retryTimer = null;
  #connectTimer = null;
  #quietTimer = null;
  #pongTimer = null;
  #pongTimeout = PONG_TIMEOUT;
  #pings = 0;
  #joining = [];
  #joinErrors = [];
  #reasons = [];
  #status = "online";
  #awayTimer = null;
  #reads = new Map();
  #unlisten = [];

  constructor(options) {
    super();
    this.#options = {
      token: null,
      userId: null,
      autoAway: true,
      WebSocket: globalThis.WebSocket,
      fetch: globalThis.fetch?.bind(globalThis),
      headers: () => ({}),
      storage: null,
      debug: false,
      ...options,
    };
    if (!this.#options.url) throw new TypeError('SalonClient needs a `url`, such as "wss://chat.example.org/ws/chat/".');
    if (!this.#options.WebSocket) throw new TypeError("There is no WebSocket here; give one as `WebSocket`.");
    this.api = this.#options.api ?? new URL(this.#options.url.replace(/^ws/, "http")).origin;
    this.#restoreOutbox();
  }

  get userId() {
    return this.#options.userId;
  }

  /** Switch the log of frames and states to `console`, or to a function of your own. */
  set debug(value) {
    this.#options.debug = value;
  }

  get debug() {
    return this.#options.debug;
  }

  _log(...what) {
    const { debug } = this.#options;
    if (debug) (typeof debug === "function" ? debug : console.debug)("salon:", ...what);
  }

  // The connection

  /** Connect, and stay connected until `close`. */
  connect() {
    if (this.state !== "idle" && this.state !== "closed") return;
    this.#attempt = this.#tokenAttempts = this.#retryAfter = 0;
    this.#listen();
    if (isOffline()) this.#setState("offline");
    else this.#open();
  }

  /** Say goodbye, and stay away until `connect`. What is in the outbox stays there. */
  close() {
    this.#drop(1000);
    this.#stopListening();
    this.#setState("closed");
  }

  /** Try now, and not when the wait is over. */
  retry() {
    if (this.state === "waiting" || this.state === "offline") this.#open();
  }

  async #open() {
    clearTimeout(this.#retryTimer);
    const generation = ++this.#generation;
    this.#setState("connecting");
    this.#reasons = [];
    this.#connectTimer = setTimeout(() => this.#lost("timeout"), CONNECT_TIMEOUT);
    let token;
    try {
      token = await this.#currentToken();
    } catch (error) {
      if (generation === this.#generation) this.#lost("token", error);
      return;
    }
    if (generation !== this.#generation) return;
    if (this.#options.token !== null && !token) {
      this.#end("no_token", "There is no token to connect with.");
      return;
    }
    // In the first frame, and not in the address: addresses are logged and copied. But where the browser has a cookie
    // of somebody else for this host, only the address counts for more.
    const address = new URL(this.#options.url);
    if (this.#isInAddress && token) address.searchParams.set("token", token);
    const socket = new this.#options.WebSocket(address.href);
    this.#socket = socket;
    socket.onopen = () => this.#opened(socket, token);
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#received(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#closed(code, reason);
    };
    socket.onerror = () => {};
  }

  async #currentToken() {
    const { token } = this.#options;
    if (typeof token !== "function") return token;
    if (this.#token === null) this.#token = await token();
    return this.#token;
  }

  #opened(socket, token) {
    if (socket !== this.#socket) return;
    this._log("open");
    // Nothing is said before it is sure for whom: the pong comes after the answer to this.
    this._event("auth", { ...(this.userId ? { user_id: this.userId } : {}), ...(token ? { token } : {}) });
    this.#ping();
  }

  /** The first pong: the server has let her in, as whom she said she is. */
  #settled() {
    clearTimeout(this.#connectTimer);
    this.#attempt = this.#tokenAttempts = this.#retryAfter = 0;
    // What somebody does who is told of the state goes out at once, and not once more.
    const rooms = [...this.rooms.values()];
    const entries = [...this.outbox];
    this.#setState("connected");
    if (this.state !== "connected") return;
    this.#joinAll(rooms);
    if (this.#status !== "online") this._event("user_status", { status: this.#status });
    for (const entry of entries) this.#transmit(entry);
    for (const [room_id, seq] of this.#reads) this._event("read", { room_id, seq });
    this.#reads.clear();
  }

  #closed(code, reason) {
    this._log("closed", code, reason, this.#reasons);
    const refusal = this.#reasons.find((each) => ABOUT_THE_TOKEN.has(each.code));
    const wait = Math.max(0, ...this.#reasons.map((each) => each.retry_after ?? 0));
    this.#forget();
    if (code === READ_AS_DONE) {
      this.#end("done", reason || "The server has ended the connection.");
    } else if (code === UNAUTHENTICATED) {
      this.#refused(refusal);
    } else if (code === SERVICE_RESTART || code === SLOW_READER) {
      this.#wait(Math.random() * RESTART_SPREAD);
    } else {
      this.#retryAfter = wait * 1000;
      this.#wait(this.#delay());
    }
  }

  /** The token does not count (any more): come back with another one, where there may be one. */
  #refused(refusal) {
    const code = refusal?.code ?? "not_authenticated";
    const sentence = refusal?.error ?? "The server does not know who this is.";
    if (typeof this.#options.token !== "function" || ++this.#tokenAttempts > MAX_TOKEN_ATTEMPTS) {
      this.#end(code, sentence);
      return;
    }
    this.#token = null;
    // The first time at once: a token that has expired is nobody's trouble.
    this.#wait(this.#tokenAttempts === 1 ? 0 : this.#delay());
  }

  /** The cookie of somebody else spoke first. */
  #mistaken({ code, error }) {
    if (this.#options.token === null || this.#isInAddress) {
      this.#end(code, error);
      return;
    }
    this.#isInAddress = true;
    this.#drop(4000);
    this.#wait(0);
  }

  /** A link that is dead, without a word of the other side. */
  #lost(why, error) {
    this._log("lost", why, error);
    const { code, retryAfter } = error ?? {};
    this.#drop(4000);
    if (retryAfter) this.#retryAfter = retryAfter * 1000;
    if (why === "token") this._emit("error", { code: code ?? "token", error: String(error?.message ?? error) });
    this.#wait(this.#delay());
  }

  #delay() {
    // Full jitter: anything up to the limit, so that those who were cut off together do not return together.
    const limit = Math.min(LONGEST_DELAY, BASE_DELAY * 2 ** this.#attempt++);
    return this.#retryAfter + Math.random() * limit;
  }

  #wait(delay) {
    if (isOffline()) {
      this.#setState("offline");
      return;
    }
    this.#setState("waiting", { delay });
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#open(), delay);
  }

  /** It is over until `connect` is called: the server does not want this person, or has said goodbye. */
  #end(code, error) {
    this.#drop(1000);
    this.#stopListening();
    this.#setState("closed");
    this._emit("end", { code, error });
  }

  #drop(code) {
    const socket = this.#socket;
    this.#forget();
    this.#generation++;
    clearTimeout(this.#retryTimer);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      socket.close(code);
    } catch (error) {
      this._log("close failed", error);
    }
  }

  #forget() {
    this.#socket = null;
    for (const timer of [this.#connectTimer, this.#quietTimer, this.#pongTimer]) clearTimeout(timer);
    this.#pings = 0;
    this.#joining = [];
    this.#joinErrors = [];
    for (const room of this.rooms.values()) room._disconnected();
    for (const entry of this.outbox) clearTimeout(entry._timer);
  }

  #setState(state, more = {}) {
    if (state === this.state && state !== "waiting") return;
    const before = this.state;
    this.state = state;
    this._log("state", state, more);
    this._emit("state", { state, before, ...more });
  }

  // The browser around it

  #listen() {
    const { document, addEventListener, removeEventListener } = globalThis;
    if (!addEventListener) return;
    const listen = (target, type, handler) => {
      target.addEventListener(type, handler);
      this.#unlisten.push(() => target.removeEventListener(type, handler));
    };
    if (removeEventListener) {
      listen(globalThis, "online", () => this.#wake());
      listen(globalThis, "offline", () => this.#sleep());
      listen(globalThis, "pageshow", (event) => event.persisted && this.#wake());
    }
    if (document) listen(document, "visibilitychange", () => this.#looked(document.visibilityState === "visible"));
  }

  #stopListening() {
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    clearTimeout(this.#awayTimer);
  }

  #sleep() {
    if (this.state === "closed" || this.state === "idle") return;
    this.#drop(4000);
    this.#setState("offline");
  }

  #wake() {
    if (this.state === "waiting" || this.state === "offline") {
      this.#attempt = 0;
      this.#wait(Math.random() * 300);
    } else if (this.state === "connected") {
      // A machine that has slept may have a link that is dead, and not know it.
      this.#ping();
    }
  }

  #looked(isVisible) {
    clearTimeout(this.#awayTimer);
    if (isVisible) {
      this.#wake();
      if (this.#options.autoAway) this.setStatus("online");
    } else if (this.#options.autoAway) {
      this.#awayTimer = setTimeout(() => this.setStatus("away"), AWAY_AFTER);
    }
  }

  // Signs of life

  #heard() {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = null;
    clearTimeout(this.#quietTimer);
    const quiet = globalThis.document?.visibilityState === "hidden" ? HIDDEN_QUIET_FOR : QUIET_FOR;
    this.#quietTimer = setTimeout(() => this.#ping(), quiet);
    if (this.#pings) this.#expectPong();
  }

  #ping() {
    if (!this._event("ping")) return;
    this.#pings++;
    this.#expectPong();
  }

  #expectPong() {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = setTimeout(() => {
      // On a slow link an answer may just take longer: the next time it may.
      this.#pongTimeout = Math.min(LONGEST_PONG_TIMEOUT, this.#pongTimeout * 2);
      this.#lost("no sign of life");
    }, this.#pongTimeout);
  }

  // Frames

  /** Send an event, if there is a connection that is hers; returns whether there was. */
  _event(type, data = {}) {
    if (this.#socket?.readyState !== 1) return false;
    if (this.state !== "connected" && type !== "auth" && type !== "ping") return false;
    const frame = { type, data, timestamp: new Date().toISOString() };
    if (data.room_id) frame.room_id = data.room_id;
    if (this.userId) frame.user_id = this.userId;
    this._log("->", type, type === "auth" ? "…" : data);
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #received(text) {
    this.#heard();
    let event;
    try {
      event = JSON.parse(text);
    } catch {
      this._log("not JSON", text);
      return;
    }
    const { type, data } = event;
    this._log("<-", type, data);
    this._emit("event", event);
    const room = this.rooms.get(data?.chat ?? data?.room_id ?? event.room_id);
    switch (type) {
      case "pong":
        this.#pings = Math.max(0, this.#pings - 1);
        if (!this.#pings) {
          clearTimeout(this.#pongTimer);
          this.#pongTimeout = PONG_TIMEOUT;
        }
        if (this.state === "connecting") this.#settled();
        this.#joinsAnswered();
        break;
      case "message":
        this.#stored(data);
        if (room) room._message(data, true);
        break;
      case "history":
        for (const message of data.messages) this.#stored(message);
        if (data.complete && room) this.#joining = this.#joining.filter((each) => each !== room);
        room?._history(data);
        break;
      case "typing":
        room?._typing(data);
        break;
      case "user_status":
        this.presence.set(data.user_id, data);
        this._emit("presence", data);
        break;
      case "room_update":
        this.#changed(room, data);
        break;
      case "error":
        this.#failed(data);
        break;
      default:
        // Events are added; who does not know one passes over it.
        this._log("unknown event", type);
    }
  }

  #changed(room, data) {
    if (room && data.message) this._emit("changed", { room, message: data.message });
    const isOut =
      data.kind === "deleted" ||
      (data.kind === "participants_removed" && this.userId && data.participants.some(({ id }) => id === this.userId));
    if (room && isOut) this.rooms.delete(room.id);
    this._emit("room_update", data);
  }

  async #failed(data) {
    this.#reasons.push(data);
    if (data.client_id !== undefined) {
      this.#refusedMessage(data);
    } else if (data.code === "token_expiring") {
      await this.#renew();
    } else if (this.state === "connecting" && PASSING.has(data.code)) {
      // Not let in, and not thrown out either: what was asked for after it fails too.
      this.#lost("refused", { retryAfter: data.retry_after });
    } else if (this.state === "connecting" && data.code === "identity_mismatch") {
      this.#mistaken(data);
    } else if (this.state === "connecting" && data.code === "not_authenticated") {
      this.#drop(4000);
      this.#refused(data);
    } else if (this.#joining.length && !ABOUT_THE_TOKEN.has(data.code)) {
      this.#joinErrors.push(data);
    } else {
      this._emit("error", data);
    }
  }

  /** A fresh token, before the one that she came with ends. */
  async #renew() {
    const { token } = this.#options;
    if (typeof token !== "function") {
      this._emit("error", { code: "token_expiring", error: "The token ends soon, and there is no function to ask for another." });
      return;
    }
    const socket = this.#socket;
    try {
      const fresh = await token();
      if (!fresh) return;
      this.#token = fresh;
      if (socket === this.#socket) this._event("auth", { token: fresh });
    } catch (error) {
      // When it ends, the connection does, and it is asked for again.
      this._emit("error", { code: "token", error: String(error?.message ?? error) });
    }
  }

  // Rooms

  /** Hear a room: from the message after `since`, or with the newest `history` messages. */
  join(id, options) {
    let room = this.rooms.get(id);
    if (room) return room;
    room = new Room(this, id, options);
    this.rooms.set(id, room);
    if (this.state === "connected") this.#joinAll([room]);
    return room;
  }

  /** Ask for what is missing between the messages of a room. */
  _fill(room) {
    this._log("a gap in room", room.id, "after", room.lastSeq);
    this.#joinAll([room], true);
  }

  #joinAll(rooms, isFilling = false) {
    for (const room of rooms) {
      const wanted = isFilling ? { room_id: room.id, since: room.lastSeq } : room._joining();
      if (this._event("join_room", wanted)) this.#joining.push(room);
    }
    // Its answer comes after theirs: whoever has none by then was refused.
    if (rooms.length) this.#ping();
  }

  #joinsAnswered() {
    if (this.#pings || !this.#joining.length) {
      if (!this.#joining.length) this.#joinErrors = [];
      return;
    }
    const rooms = this.#joining.splice(0);
    const errors = this.#joinErrors.splice(0);
    const passing = errors.filter(({ code }) => PASSING.has(code));
    if (passing.length) {
      const delay = 1000 * Math.max(...passing.map((each) => each.retry_after ?? 1));
      const socket = this.#socket;
      const again = () => {
        if (socket === this.#socket) this.#joinAll(rooms.filter((room) => this.rooms.get(room.id) === room));
      };
      setTimeout(again, delay + Math.random() * BASE_DELAY);
      return;
    }
    const error = errors[0] ?? { code: "invalid_room", error: "Invalid room ID" };
    for (const room of rooms) {
      this.rooms.delete(room.id);
      this._emit("refused", { room, ...error });
    }
  }

  _leave(room) {
    if (this.rooms.get(room.id) !== room) return;
    room.stopTyping();
    this.rooms.delete(room.id);
    room._disconnected();
    this._event("leave_room", { room_id: room.id });
  }

  _markRead(room_id, seq) {
    if (!this._event("read", { room_id, seq })) this.#reads.set(room_id, Math.max(seq, this.#reads.get(room_id) ?? 0));
  }

  /** How present she is at this client: `online`, `away` or `offline`. */
  setStatus(status) {
    if (status === this.#status) return;
    this.#status = status;
    this._event("user_status", { status });
  }

  // Messages

  /** Keep a message and send it, now or once there is a connection; returns its entry in the outbox. */
  _send(roomId, content, { clientId: name = clientId(), extraData = null } = {}) {
    content = content.trim();
    const entry = {
      client_id: name,
      room_id: roomId,
      content,
      extra_data: extraData,
      created_at: new Date().toISOString(),
      state: "sending",
      error: null,
      message: null,
    };
    entry.done = new Promise((resolve) => Object.defineProperty(entry, "_resolve", { value: resolve }));
    Object.defineProperty(entry, "_timer", { value: null, writable: true });
    this.outbox.push(entry);
    this.#keepOutbox();
    this._emit("outgoing", entry);
    this.#transmit(entry);
    return entry;
  }

  /** Send again what has failed. */
  resend(entry) {
    if (entry.state !== "failed" || !this.outbox.includes(entry)) return;
    entry.state = "sending";
    entry.error = null;
    this._emit("outgoing", entry);
    this.#transmit(entry);
  }

  /** Give up what is not stored. It may have reached the server all the same. */
  discard(entry) {
    clearTimeout(entry._timer);
    this.outbox = this.outbox.filter((each) => each !== entry);
    this.#keepOutbox();
    entry._resolve(null);
  }

  #transmit(entry) {
    if (entry.state !== "sending") return;
    clearTimeout(entry._timer);
    if (entry.extra_data) {
      this.#post(entry);
      return;
    }
    const { room_id, content, client_id } = entry;
    if (this._event("message", { room_id, content, client_id })) {
      // The server knows it by its name: twice is once.
      entry._timer = setTimeout(() => this.#transmit(entry), ANSWER_TIMEOUT);
    }
  }

  /** What an event over the WebSocket has no place for goes over HTTP, under the same name. */
  async #post(entry) {
    if (this.state !== "connected" || entry._posting) return;
    Object.defineProperty(entry, "_posting", { value: true, writable: true, configurable: true });
    const { room_id, content, client_id, extra_data } = entry;
    try {
      const body = { chat: room_id, content, client_id, extra_data };
      this.#stored(await this.request("/chats/messages/", { method: "POST", body }));
    } catch (error) {
      this.#refusedMessage({ client_id, code: error.code, error: error.message, retry_after: error.retryAfter }, error.isPassing);
    } finally {
      entry._posting = false;
    }
  }

  #refusedMessage(data, isPassing = PASSING.has(data.code)) {
    const entry = this.outbox.find((each) => each.client_id === data.client_id);
    if (!entry) return;
    clearTimeout(entry._timer);
    if (isPassing) {
      const delay = (data.retry_after ?? 1) * 1000 + Math.random() * BASE_DELAY;
      entry._timer = setTimeout(() => this.#transmit(entry), delay);
      return;
    }
    entry.state = "failed";
    entry.error = { code: data.code, error: data.error };
    this._emit("outgoing", entry);
  }

  #stored(message) {
    if (!message.client_id) return;
    const entry = this.outbox.find(
      (each) =>
        each.client_id === message.client_id && each.room_id === message.chat && (!this.userId || this.userId === message.sender),
    );
    if (!entry) return;
    clearTimeout(entry._timer);
    this.outbox = this.outbox.filter((each) => each !== entry);
    this.#keepOutbox();
    entry.state = "sent";
    entry.message = message;
    this._emit("outgoing", entry);
    entry._resolve(message);
  }

  get #outboxKey() {
    return `salon.outbox.${this.userId ?? ""}`;
  }

  #keepOutbox() {
    const { storage } = this.#options;
    if (!storage) return;
    const kept = this.outbox.map(({ client_id, room_id, content, extra_data, created_at }) => {
      return { client_id, room_id, content, extra_data, created_at };
    });
    try {
      if (kept.length) storage.setItem(this.#outboxKey, JSON.stringify(kept));
      else storage.removeItem(this.#outboxKey);
    } catch (error) {
      this._log("the outbox cannot be kept", error);
    }
  }

  #restoreOutbox() {
    const { storage } = this.#options;
    try {
      for (const kept of JSON.parse(storage?.getItem(this.#outboxKey) ?? "[]")) {
        const entry = { ...kept, state: "sending", error: null, message: null };
        entry.done = new Promise((resolve) => Object.defineProperty(entry, "_resolve", { value: resolve }));
        Object.defineProperty(entry, "_timer", { value: null, writable: true });
        this.outbox.push(entry);
      }
    } catch (error) {
      this._log("the outbox cannot be restored", error);
    }
  }

  // The HTTP API

  /** Call the HTTP API; `body` is sent as JSON, or as it is when it is `FormData`. Raises `SalonError`. */
  async request(path, { method = "GET", body, signal } = {}) {
    for (let attempt = 0; ; attempt++) {
      const headers = { Accept: "application/json", ...(await this.#headers(method)) };
      let content = body;
      if (body && !(body instanceof FormData)) {
        headers["Content-Type"] = "application/json";
        content = JSON.stringify(body);
      }
      let answer;
      try {
        answer = await this.#options.fetch(new URL(path, this.api), { method, headers, body: content, signal });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new SalonError("The server cannot be reached.", { cause: error });
      }
      if (answer.ok) return answer.status === 204 ? null : answer.json();
      if (answer.status === 401 && attempt === 0 && typeof this.#options.token === "function") {
        this.#token = null;
        continue;
      }
      const retryAfter = Number(answer.headers.get("Retry-After")) || null;
      throw problem(answer.status, await answer.json().catch(() => ({})), retryAfter);
    }
  }

  /** Send a message with files, by `XMLHttpRequest`, which tells how far it is. `voiceNote` is one recording. */
  async upload(roomId, files, { content = "", voiceNote = null, clientId: name = clientId(), extraData = null, onProgress, signal } = {}) {
    const body = new FormData();
    body.append("chat_room_id", roomId);
    body.append("client_id", name);
    if (content) body.append("content", content);
    if (extraData) body.append("extra_data", JSON.stringify(extraData));
    [...files].forEach((file, index) => body.append(`attachment_${index}`, file, file.name));
    if (voiceNote) body.append("voice_note", voiceNote, voiceNote.name ?? "voice-note");
    const headers = await this.#headers("POST");
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", new URL("/chats/messages/create/", this.api));
      for (const [header, value] of Object.entries(headers)) request.setRequestHeader(header, value);
      request.responseType = "json";
      request.upload.onprogress = ({ loaded, total }) => onProgress?.(loaded / total);
      request.onload = () => {
        if (request.status < 300) resolve(request.response);
        else reject(problem(request.status, request.response ?? {}, Number(request.getResponseHeader("Retry-After")) || null));
      };
      request.onerror = () => reject(new SalonError("The server cannot be reached."));
      request.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
      signal?.addEventListener("abort", () => request.abort());
      request.send(body);
    });
  }

  async #headers(method) {
    const token = await this.#currentToken();
    const own = method === "GET" ? {} : this.#options.headers();
    return token ? { Authorization: `Bearer ${token}`, ...own } : own;
  }
}

function problem(status, body, retryAfter) {
  const fields = Object.entries(body ?? {}).filter(([, value]) => Array.isArray(value));
  const sentence = body?.detail ?? fields.map(([name, values]) => `${name}: ${values.join(" ")}`).join(" ");
  return new SalonError(sentence || `The server answered ${status}.`, { code: body?.code ?? "refused", status, retryAfter });
}

function isOffline() {
  return globalThis.navigator?.onLine === false;
}
