// Made from the AsyncAPI document by `manage.py wire_types`. Change app/chat/protocol.py, and make it again.

/**
 * Say who is connected, by a token; or, once that is known, renew the token or make sure of the person.
 *
 * A connection that has not said so after five seconds is closed with 4401.
 */
export interface Auth {
  type: "auth";
  data?: AuthData;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

export interface AuthData {
  user_id?: number | null;
  token?: string | null;
}

/**
 * Receive the events of a room from now on, and before them what `data` asks for, in `history` events.
 *
 * The present state of the other members follows in `user_status` events.
 */
export interface JoinRoom {
  type: "join_room";
  data?: JoinData;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

/** `since`: the last sequence number seen; `history`: how many of the newest messages. At most one of the two. */
export interface JoinData {
  room_id?: number | null;
  since?: number | null;
  history?: number | null;
}

/** Receive no more events of a room. */
export interface LeaveRoom {
  type: "leave_room";
  data?: RoomData;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

export interface RoomData {
  room_id?: number | null;
}

/** Say something in a room. The `message` event that comes back is the receipt: it is stored. */
export interface SendMessage {
  type: "message";
  data: MessageContent;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

/** `client_id`: the sender's own name for the message; under the same one it is never stored twice. */
export interface MessageContent {
  /** 1 to 2000 characters (code points), counted once white space at both ends is taken off. */
  content: string;
  room_id?: number | null;
  client_id?: string | null;
}

/** Begin or stop typing. It ends by itself after five seconds, and with the message. */
export interface SetTyping {
  type: "typing";
  data: TypingState;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

export interface TypingState {
  is_typing: boolean;
  room_id?: number | null;
}

/** How present the person is at this connection; she is as present as the most present of her connections. */
export interface SetStatus {
  type: "user_status";
  data: StatusData;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

export interface StatusData {
  status: "away" | "offline" | "online";
}

/** Everything up to a message is read. The mark never goes back. */
export interface Read {
  type: "read";
  data?: ReadData;
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

/** `seq`: up to which message; without it, up to the newest. */
export interface ReadData {
  room_id?: number | null;
  seq?: number | null;
}

/** Ask for a `pong`, which comes after the answers to all that was sent before. */
export interface Ping {
  type: "ping";
  room_id?: number | null;
  user_id?: number | null;
  timestamp?: string | null;
}

/** Somebody said something in a room. */
export interface Message {
  type: "message";
  data: MessageData;
  room_id: number;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

/** A message. `seq` counts the messages of its room from 1, without a gap; what was deleted has no content. */
export interface MessageData {
  id: number;
  uuid: string;
  seq: number;
  content: string;
  sender: number;
  chat: number;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  created_at: string;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  last_update: string;
  is_deleted: boolean;
  extra_data: Record<string, unknown> | null;
  message_type: string;
  attachment_url: string | null;
  voice_note_url: string | null;
  attachments: Array<AttachmentData>;
  client_id: string | null;
  sender_info: SenderInfo;
}

/** A file of a message. `size` is in bytes; `content_type` was told by the content, not by the name. */
export interface AttachmentData {
  url: string;
  name: string;
  content_type: string;
  size: number;
  kind: "attachment" | "voice_note";
}

/** A person as others see her. */
export interface SenderInfo {
  id: number;
  name: string;
  role: string;
  avatar: string | null;
}

/** What was said before the live events that follow. */
export interface History {
  type: "history";
  data: HistoryData;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

/**
 * What a client asked for when it joined: the oldest message first, at most 50 in each event.
 *
 * `complete`: no other `history` event of this answer follows. `last_seq`: of the room's newest message, which live
 * events go on from. `missed`: how many messages there are after `since`; where that is more than 500, the newest 500
 * are here, and `next` is the path of the HTTP API that pages the others (null where there are none). `changed`:
 * older messages that were edited or deleted since, at most 500.
 */
export interface HistoryData {
  room_id: number;
  messages: Array<MessageData>;
  changed: Array<MessageData>;
  complete: boolean;
  last_seq: number;
  missed: number;
  next: string | null;
}

/** Another member types, or no longer does. */
export interface Typing {
  type: "typing";
  data: TypingData;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

export interface TypingData {
  room_id: number;
  user_id: number;
  user_name: string;
  is_typing: boolean;
}

/** How present somebody is who shares a room with this person. */
export interface UserStatus {
  type: "user_status";
  data: UserStatusData;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

export interface UserStatusData {
  user_id: number;
  status: "away" | "offline" | "online";
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  last_seen: string;
}

/** Something changed in a room. */
export interface RoomUpdate {
  type: "room_update";
  data: RoomUpdateData;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

/**
 * What changed in a room: `kind`, and the fields that belong to it.
 *
 * `participants_added`, `participants_removed`: `participants`. `renamed`: `name`. `message_edited`,
 * `message_deleted`: `message`. `read`: `user_id` has read everything up to `seq`. `deleted`: nothing more.
 */
export interface RoomUpdateData {
  room_id: number;
  kind: "deleted" | "message_deleted" | "message_edited" | "participants_added" | "participants_removed" | "read" | "renamed";
  participants?: Array<SenderInfo>;
  name?: string;
  message?: MessageData;
  user_id?: number;
  seq?: number;
}

/** Something that was asked for cannot be, or something about the connection. */
export interface Error {
  type: "error";
  data: ErrorData;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

/**
 * `error`: a sentence for a person; `code`: stable, for a program.
 *
 * `client_id`: of the message that was refused, where it had one. `retry_after`: seconds until it may work.
 */
export interface ErrorData {
  error: string;
  code: ErrorCode;
  client_id?: string;
  retry_after?: number;
}

/**
 * Why an `error` event was sent. The values are stable; the sentence beside them is for a person.
 *
 * - `invalid_json`: The frame is not valid JSON, or is nested too deeply.
 * - `not_an_object`: The frame is JSON, but not an object.
 * - `binary_frame`: The frame is binary; every event is a text frame.
 * - `unknown_type`: The event's `type` is none that this server knows.
 * - `invalid_event`: A field of the event is missing or not as it should be; the sentence names it.
 * - `invalid_room`: There is no such room, or the person is not a member of it.
 * - `not_joined`: This connection has not joined the room.
 * - `too_many_rooms`: This connection has joined as many rooms as it may; leave one first.
 * - `forbidden`: The person is known, but her role does not allow this.
 * - `invalid_message`: There is no such message, or it is not in a room of this person.
 * - `invalid_participants`: Somebody who is named is not there, or too many or few are named.
 * - `invalid_file`: The file is missing, or is of a kind that is not taken.
 * - `file_too_large`: The file has more bytes than one may have.
 * - `content_empty`: Nothing is left of the message once white space at both ends is taken off.
 * - `content_too_long`: The message has more than 2000 characters.
 * - `content_invalid`: The message holds a character that cannot be stored, such as NUL.
 * - `not_authenticated`: The connection has not said who it is; nothing else is answered before.
 * - `invalid_token`: The token is not one of this server, or its person is not active any more.
 * - `token_expiring`: The token expires soon; send a new one in an `auth` event, and nothing ends.
 * - `token_expired`: The token has expired; connect again with a new one.
 * - `revoked`: The token was revoked, or the person was deactivated or signed out; do not come back with it.
 * - `identity_mismatch`: The event claims to be of somebody else than the connection's person.
 * - `rate_limited`: Too much in too short a time; wait for `retry_after` seconds.
 * - `too_many_connections`: The person has as many connections as she may; close one first.
 * - `unavailable`: A service that the server needs is away for the moment; try again after `retry_after` seconds.
 * - `internal`: The server made a mistake, and has logged it.
 */
export type ErrorCode = "invalid_json" | "not_an_object" | "binary_frame" | "unknown_type" | "invalid_event" | "invalid_room" | "not_joined" | "too_many_rooms" | "forbidden" | "invalid_message" | "invalid_participants" | "invalid_file" | "file_too_large" | "content_empty" | "content_too_long" | "content_invalid" | "not_authenticated" | "invalid_token" | "token_expiring" | "token_expired" | "revoked" | "identity_mismatch" | "rate_limited" | "too_many_connections" | "unavailable" | "internal";

/** The answer to `ping`. */
export interface Pong {
  type: "pong";
  data: Nothing;
  /** ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments. */
  timestamp: string;
}

/** Always empty. */
export type Nothing = Record<string, never>;

export type ClientEvent = Auth | JoinRoom | LeaveRoom | SendMessage | SetTyping | SetStatus | Read | Ping;

export type ServerEvent = Message | History | Typing | UserStatus | RoomUpdate | Error | Pong;

export type CloseCode = 1002 | 1007 | 1009 | 1012 | 4401 | 4408 | 4429 | 4500 | 4503;
