import type { ErrorCode, MessageData, RoomUpdateData, ServerEvent, UserStatusData } from "./wire.js";

export type * from "./wire.js";

export const VERSION: string;

/** The addresses of a Salon, of the variables that a frontend is configured with. */
export function addresses(variables: {
  /** `NEXT_PUBLIC_WS_HOST` */
  host: string;
  /** `NEXT_PUBLIC_WS_PROTOCOL` */
  protocol?: "ws" | "wss" | string;
  /** `NEXT_PUBLIC_API_BASE_URL` */
  api?: string;
}): { url: string; api: string };

/** A name for a message, by which the server knows it when it comes twice. */
export function clientId(): string;

/** Why a call of the HTTP API failed. `status` is 0 where there was no answer, and `code` then "network". */
export class SalonError extends Error {
  readonly code: ErrorCode | "network" | "refused" | (string & {});
  readonly status: number;
  /** Seconds until it may work, where the server says. */
  readonly retryAfter: number | null;
  /** Whether the same may work later. */
  get isPassing(): boolean;
}

export type State = "idle" | "connecting" | "connected" | "waiting" | "offline" | "closed";

/** Why it is over until `connect` is called again: the server's code, "no_token" without one, "done" after a goodbye. */
export type EndCode = ErrorCode | "no_token" | "done";

/** A message that was sent here. It stays one object from `sending` to `sent` or `failed`. */
export interface Outgoing {
  readonly client_id: string;
  readonly room_id: number;
  readonly content: string;
  readonly extra_data: Record<string, unknown> | null;
  /** When it was written, ISO 8601. */
  readonly created_at: string;
  readonly state: "sending" | "sent" | "failed";
  /** Why it has failed. */
  readonly error: { code: ErrorCode | "network" | "refused" | (string & {}); error: string } | null;
  /** What the server has stored, once it is `sent`. */
  readonly message: MessageData | null;
  /** The stored message, as soon as there is one; null when it was discarded. */
  readonly done: Promise<MessageData | null>;
}

export interface SalonEvents {
  /** The connection is in another state; `delay` are the milliseconds until the next attempt. */
  state: { state: State; before: State; delay?: number };
  /** It is over until `connect` is called again. */
  end: { code: EndCode; error: string };
  /** A message, once, and in the room's order. `isLive` is false for one of the history. */
  message: { room: Room; message: MessageData; isLive: boolean };
  /** A message that was handed on before was edited or deleted. */
  changed: { room: Room; message: MessageData };
  /** A message that was sent here is in another state. */
  outgoing: Outgoing;
  /** Who types now. */
  typing: { room: Room; names: string[] };
  /** How present somebody is. */
  presence: UserStatusData;
  /** The events of a room arrive from now on; `missed` messages came before. */
  joined: { room: Room; missed: number };
  /** More was missed than comes by itself: the messages between `after` and `before` are at the HTTP API's `next`. */
  gap: { room: Room; after: number; before: number; next: string | null };
  /** A room cannot be heard (any more): she is not, or no longer, a member. */
  refused: { room: Room; code: ErrorCode; error: string };
  /** What changed in a room, as the server says it; a message too. */
  room_update: RoomUpdateData;
  /** Something that was asked for cannot be. */
  error: { code: ErrorCode | "token"; error: string; retry_after?: number };
  /** Every frame, as it came. */
  event: ServerEvent;
}

export interface JoinOptions {
  /** The number of the newest message that is known; what follows comes. */
  since?: number | null;
  /** How many of the newest messages come, where nothing is known yet (50; at most 500). */
  history?: number;
}

export interface SendOptions {
  /** The message's own name; one is made up otherwise. */
  clientId?: string;
  /** What goes along, as `extra_data`; such a message is sent over HTTP. */
  extraData?: Record<string, unknown> | null;
}

/** A room that is heard. Made by `SalonClient.join`. */
export class Room {
  private constructor();
  readonly id: number;
  /** The number of the newest message that was handed on; null until the first answer. */
  readonly lastSeq: number | null;
  /** The people who type now: their names by their ids. */
  readonly typing: ReadonlyMap<number, string>;
  /** Whether its events arrive. */
  readonly isJoined: boolean;
  /** Say something; it is kept and sent until the server has it. */
  send(content: string, options?: SendOptions): Outgoing;
  /** To be called at each key: tells the others that she types, and that she has stopped three seconds later. */
  startTyping(): void;
  stopTyping(): void;
  /** Everything up to the newest message, or up to `seq`, is read. */
  markRead(seq?: number): void;
  /** Hear the room no more. */
  leave(): void;
}

export type Token = string | null;

export interface SalonOptions {
  /** The WebSocket's address, such as `wss://chat.example.org/ws/chat/`. */
  url: string;
  /** The HTTP API's origin; that of `url` otherwise. */
  api?: string;
  /**
   * A token, or a function that gets one, and is asked again when it has expired or is about to. A function that gives
   * null says that nobody is signed in. Without: the session cookie of Salon's own page.
   */
  token?: Token | (() => Token | Promise<Token>);
  /** Who this is, where it is known: then nobody else's message is taken for her own. */
  userId?: number | null;
  /** Tell the others that she is away when the page has been hidden for a minute (true). */
  autoAway?: boolean;
  /** Where the outbox is kept beyond a reload, such as `sessionStorage`. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null;
  /** Log frames and states: to `console.debug`, or to a function. */
  debug?: boolean | ((...what: unknown[]) => void);
  /** Headers of each call that changes something. */
  headers?: () => Record<string, string>;
  WebSocket?: new (url: string) => WebSocket;
  fetch?: typeof fetch;
}

export interface UploadOptions extends SendOptions {
  content?: string;
  /** A recording, instead of files or with them. */
  voiceNote?: Blob | null;
  /** Told how much is sent, from 0 to 1. */
  onProgress?: (share: number) => void;
  signal?: AbortSignal;
}

/** One person at one Salon: one connection, any number of rooms. */
export class SalonClient {
  constructor(options: SalonOptions);
  readonly state: State;
  readonly api: string;
  readonly userId: number | null;
  /** The rooms that are heard, by id. */
  readonly rooms: ReadonlyMap<number, Room>;
  /** How present others are, by their ids. */
  readonly presence: ReadonlyMap<number, UserStatusData>;
  /** What was sent and is not stored yet, oldest first. */
  readonly outbox: readonly Outgoing[];
  debug: boolean | ((...what: unknown[]) => void);

  /** Call `listener` at each event of a type; returns a function that ends it. */
  on<Type extends keyof SalonEvents>(type: Type, listener: (event: SalonEvents[Type]) => void): () => void;
  /** The same, for the next event only. */
  once<Type extends keyof SalonEvents>(type: Type, listener: (event: SalonEvents[Type]) => void): () => void;

  /** Connect, and stay connected until `close`. */
  connect(): void;
  /** Say goodbye, and stay away until `connect`. */
  close(): void;
  /** Try now, and not when the wait is over. */
  retry(): void;
  /** Hear a room; the one that is heard already is returned. */
  join(id: number, options?: JoinOptions): Room;
  setStatus(status: UserStatusData["status"]): void;
  /** Send again what has failed. */
  resend(entry: Outgoing): void;
  /** Give up what is not stored. */
  discard(entry: Outgoing): void;
  /** Call the HTTP API, such as `/chats/rooms/`. Raises `SalonError`. */
  request<Answer = unknown>(
    path: string,
    options?: { method?: string; body?: unknown; signal?: AbortSignal },
  ): Promise<Answer>;
  /** Send a message with files. Raises `SalonError`. */
  upload(roomId: number, files: Iterable<File>, options?: UploadOptions): Promise<MessageData>;
}
