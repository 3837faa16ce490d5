// The page at `/`: who is signed in, her rooms, and one conversation.

import { Composer } from "./composer.js";
import { confirm, newRoomDialog, openMenu, roomDialog } from "./dialogs.js";
import { announce, avatar, byId, el, icon, language, name, say, shortMoment, start } from "./dom.js";
import { clientId, SalonClient } from "./salon-client.js";
import { Timeline } from "./timeline.js";

const PAGE = 40; // messages a room is opened with
const TOLD_AFTER = 1200; // ms without a connection until she is told
const READ_AFTER = 300; // ms for which she sees what is new
const FARTHEST = 190; // unread messages that are shown from their beginning
const REMEMBERED_ROOMS = 6; // whose newest messages are kept, for coming back
const MOST_JOINED = 200; // rooms of one connection
const NOTED = 80; // characters of a notification

const { user } = start;
const rooms = new Map(start.rooms.map((room) => [room.id, room]));
const uploads = [];
const cached = new Map();
let current = null;
let titleTimer;
let readTimer;
let bannerTimer;
let downSince = null;

const salon = new SalonClient({
  url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/chat/`,
  api: location.origin,
  userId: user.id,
  storage: sessionStorage,
  headers: () => ({ "X-CSRFToken": start.csrf }),
  debug: new URLSearchParams(location.search).has("debug"),
});

const timeline = new Timeline(byId("scroller"), byId("messages"), loadMessages, {
  userId: user.id,
  menu: messageMenu,
  retry: (entry) => (entry.files ? startUpload(entry) : salon.resend(entry)),
  discard: discard,
  changed: timelineChanged,
});

const composer = new Composer({
  send(content, extraData) {
    leaveUnreadLine();
    salon.rooms.get(current.id)?.send(content, { extraData });
    timeline.jumpToEnd();
  },
  upload(files, { content = "", voiceNote = null, extraData = null }) {
    const entry = {
      client_id: clientId(),
      room_id: current.id,
      content,
      files: voiceNote ? [voiceNote] : [...files],
      voiceNote,
      extra_data: extraData,
      created_at: new Date().toISOString(),
      state: "sending",
      progress: 0,
    };
    uploads.push(entry);
    leaveUnreadLine();
    timeline.jumpToEnd();
    startUpload(entry);
  },
  async edit(message, content) {
    if (content === message.content) return;
    await attempt(() => salon.request(`/chats/messages/${message.id}/`, { method: "PATCH", body: { content } }));
  },
  typing(isTyping) {
    const room = salon.rooms.get(current?.id);
    if (isTyping) room?.startTyping();
    else room?.stopTyping();
  },
  last: () => timeline.newestOwn(),
  problem: showProblem,
});

// Rooms

const sorted = () => [...rooms.values()].sort((one, other) => (one.active_at < other.active_at ? 1 : -1));

function showRooms() {
  const wanted = byId("search").value.trim().toLocaleLowerCase(language);
  const shown = sorted().filter((room) => room.name.toLocaleLowerCase(language).includes(wanted));
  const list = byId("rooms");
  const focused = document.activeElement?.closest?.("#rooms [data-room]")?.dataset.room;
  list.replaceChildren(...shown.map(roomItem));
  byId("no-rooms").hidden = rooms.size > 0;
  byId("none-found").hidden = shown.length > 0 || !rooms.size;
  if (focused) list.querySelector(`[data-room="${focused}"]`)?.focus();
  showTitle();
}

function roomItem(room) {
  const isCurrent = room === current;
  const status = room.recipient ? (salon.presence.get(room.recipient.id)?.status ?? "offline") : null;
  const typing = typingIn(room);
  const last = el("span", { class: typing ? "last typing" : "last" }, typing || lastOf(room));
  const unread = room.unread ? el("span", { class: "badge" }, String(room.unread > 99 ? "99+" : room.unread), el("span", { class: "unseen" }, ` ${say("unread", { count: room.unread })}`)) : null;
  const time = room.last ? el("span", { class: "when" }, shortMoment(room.last.created_at)) : null;
  const link = el(
    "a",
    { href: `?room=${room.id}`, "data-room": room.id, "aria-current": isCurrent ? "page" : null, class: room.unread ? "unread" : null },
    el("span", { class: status ? `presence ${status}` : null }, avatar({ id: room.recipient?.id ?? room.id, name: room.name, avatar: room.recipient?.avatar }, room.recipient ? "" : "room")),
    el("span", { class: "called" }, name(room.name), status && status !== "offline" ? el("span", { class: "unseen" }, ` (${say(status)})`) : null),
    time,
    last,
    unread,
  );
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    openRoom(room, { push: true });
    if (!isNarrow()) byId("content").focus();
  });
  return el("li", {}, link);
}

function lastOf(room) {
  if (!room.last) return say("nothing_said");
  const { sender, by, content, is_deleted, kind } = room.last;
  const said = is_deleted ? say("deleted") : content || say(kind ?? "a_file");
  const who = sender === user.id ? say("you") : by;
  return el("span", {}, room.recipient && sender !== user.id ? "" : el("span", {}, name(who), ": "), el("bdi", {}, said));
}

const typingIn = (room) => {
  const names = [...(salon.rooms.get(room.id)?.typing.values() ?? [])];
  if (!names.length) return "";
  return names.length > 2 ? say("several_typing") : say("typing", { count: names.length, name: names.join(say("and")) });
};

function summary(message) {
  const file = message.attachments[0];
  const kind = file && (file.kind === "voice_note" ? "voice_note" : file.content_type.startsWith("image/") ? "a_picture" : "a_file");
  const { sender, content, is_deleted, created_at, seq } = message;
  return { sender, by: message.sender_info.name, content: content.slice(0, 120), is_deleted, created_at, seq, kind };
}

const isNarrow = () => matchMedia("(max-width: 47.99rem)").matches;

async function openRoom(room, { push = false } = {}) {
  if (push && room !== current) history.pushState({ room: room.id }, "", `?room=${room.id}`);
  document.body.dataset.view = "room";
  if (room === current) return;
  leaveRoom();
  current = room;
  byId("conversation").hidden = false;
  byId("nothing-open").hidden = true;
  byId("skip").hidden = false;
  byId("problem").hidden = true;
  timeline.isGroup = !room.recipient;
  timeline.seenUpTo = room.seen_up_to ?? 0;
  const readUpTo = room.unread ? room.last_seq - room.unread : null;
  timeline.outgoing = entriesOf(room);
  showHeader();
  showRooms();
  composer.open(room.id, room.type !== "announcement" || user.mayModerate);
  if (!salon.rooms.has(room.id)) salon.join(room.id, { since: room.last_seq });
  const known = cached.get(room.id);
  const isEnough = !room.unread || room.unread > FARTHEST || known?.[0]?.seq <= readUpTo + 1;
  if (known && isEnough) {
    timeline.reset(known, { hasNewest: known.at(-1)?.seq >= room.last_seq || !room.last_seq, readUpTo });
    return;
  }
  timeline.reset([], { readUpTo });
  byId("scroller").setAttribute("aria-busy", "true");
  try {
    // What is unread is shown from its beginning, if that is not far.
    const found = await loadMessages({}, room.unread > FARTHEST ? PAGE : Math.max(PAGE, room.unread + 10), room);
    if (room === current) timeline.reset(found, { hasNewest: true, readUpTo });
  } catch (error) {
    if (room === current) showProblem(error.message);
  } finally {
    byId("scroller").removeAttribute("aria-busy");
  }
}

function leaveRoom() {
  if (!current) return;
  salon.rooms.get(current.id)?.stopTyping();
  cached.delete(current.id);
  if (timeline.hasNewest) cached.set(current.id, timeline.messages.slice(-PAGE));
  if (cached.size > REMEMBERED_ROOMS) cached.delete(cached.keys().next().value);
}

function closeRoom() {
  leaveRoom();
  current = null;
  byId("conversation").hidden = true;
  byId("nothing-open").hidden = false;
  byId("skip").hidden = true;
  document.body.dataset.view = "rooms";
  showRooms();
}

function removeRoom(id, why) {
  const room = rooms.get(id);
  if (!room) return;
  rooms.delete(id);
  cached.delete(id);
  if (room === current) {
    current = null;
    history.replaceState({}, "", location.pathname);
    closeRoom();
  } else {
    showRooms();
  }
  if (why) announce(say(why, { name: room.name }));
}

function showHeader() {
  const room = current;
  if (!room) return;
  byId("room-avatar").replaceChildren(avatar({ id: room.recipient?.id ?? room.id, name: room.name, avatar: room.recipient?.avatar }, room.recipient ? "" : "room"));
  byId("room-name").replaceChildren(name(room.name));
  let state;
  if (room.recipient) {
    const presence = salon.presence.get(room.recipient.id);
    state = say(presence?.status ?? "offline");
    if (presence?.status === "offline") state = say("last_seen", { when: shortMoment(presence.last_seen) });
  } else {
    state = say("members", { count: room.member_count });
  }
  byId("room-state").textContent = state;
  byId("typing").textContent = typingIn(room);
}

function showTitle() {
  clearTimeout(titleTimer);
  titleTimer = setTimeout(() => {
    const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
    document.title = `${unread ? `(${unread}) ` : ""}${current ? `${current.name} · ` : ""}Salon`;
  }, 50);
}

/** A room as the HTTP API has it, in the form that the page starts with. */
function fromDetail(detail) {
  const { recipient, last_message: last } = detail;
  return {
    id: detail.id,
    name: detail.name,
    type: detail.room_type,
    recipient: recipient && { id: recipient.id, name: recipient.full_name, avatar: recipient.image_url },
    member_count: detail.participants.length,
    unread: detail.unread_count,
    last_seq: detail.last_seq,
    active_at: detail.last_update,
    seen_up_to: 0,
    last: last && summary({ ...last, sender: last.sender_info.id }),
  };
}

async function addRoom(id, detail) {
  if (rooms.has(id)) return rooms.get(id);
  const room = fromDetail(detail ?? (await salon.request(`/chats/rooms/${id}/`)));
  if (rooms.has(id)) return rooms.get(id);
  rooms.set(id, room);
  joinRoom(room);
  showRooms();
  return room;
}

function joinRoom(room) {
  if (salon.rooms.size < MOST_JOINED) salon.join(room.id, { since: room.last_seq });
}

// Messages

async function loadMessages(where, limit, room = current) {
  const query = new URLSearchParams({ room_id: room.id, limit, ...where });
  const page = await salon.request(`/chats/messages/?${query}`);
  const read = page.results.findLast(({ status, sender }) => status === "read" && sender === user.id);
  if (read && room === current) timeline.setSeen(Math.max(room.seen_up_to ?? 0, read.seq));
  return page.results;
}

const entriesOf = (room) => [...salon.outbox, ...uploads].filter((entry) => entry.room_id === room?.id);

function showOutgoing() {
  timeline.setOutgoing(entriesOf(current));
}

async function startUpload(entry) {
  entry.state = "sending";
  entry.progress = 0;
  entry.abort = new AbortController();
  showOutgoing();
  const { room_id, voiceNote, content, client_id, extra_data, abort } = entry;
  try {
    await salon.upload(room_id, voiceNote ? [] : entry.files, {
      content,
      voiceNote,
      clientId: client_id,
      extraData: extra_data,
      signal: abort.signal,
      onProgress(share) {
        entry.progress = share;
        timeline.setProgress(entry);
      },
    });
    // Its message comes like any other, and takes its place.
    entry.state = "sent";
  } catch (error) {
    if (error.name === "AbortError") return;
    entry.state = "failed";
    entry.error = { code: error.code, error: error.status ? error.message : say("upload_failed") };
  }
  showOutgoing();
}

function discard(entry) {
  if (entry.files) {
    entry.abort?.abort();
    uploads.splice(uploads.indexOf(entry), 1);
  } else {
    salon.discard(entry);
  }
  showOutgoing();
}

function received({ room: { id }, message, isLive }) {
  const room = rooms.get(id);
  if (!room) return;
  room.last_seq = Math.max(room.last_seq, message.seq);
  room.last = summary(message);
  room.active_at = message.created_at;
  const uploaded = uploads.findIndex(({ client_id }) => client_id === message.client_id);
  if (uploaded >= 0) uploads.splice(uploaded, 1);
  const isMine = message.sender === user.id;
  const isFirstUnread = !isMine && !room.unread;
  room.unread = isMine ? 0 : room.unread + 1;
  if (room === current) {
    if (isFirstUnread && !(isLooked() && timeline.isAtEnd)) {
      leaveUnreadLine();
      timeline.readUpTo = message.seq - 1;
    }
    timeline.append(message);
    if (uploaded >= 0 || isMine) showOutgoing();
    if (!isMine && isLive) announce(`${message.sender_info.name}: ${message.content || say(room.last.kind ?? "a_file")}`);
    markRead();
  } else {
    const known = cached.get(id);
    if (known) cached.set(id, known.at(-1)?.seq === message.seq - 1 ? [...known, message].slice(-PAGE) : known);
  }
  if (!isMine && isLive) notify(room, message);
  showRooms();
}

const isLooked = () => document.visibilityState === "visible" && document.hasFocus();

function markRead() {
  clearTimeout(readTimer);
  if (!current?.unread || !isLooked() || !timeline.isAtEnd) return;
  readTimer = setTimeout(() => {
    if (!current?.unread || !isLooked() || !timeline.isAtEnd) return;
    current.unread = 0;
    salon.rooms.get(current.id)?.markRead(current.last_seq);
    showRooms();
  }, READ_AFTER);
}

/** Whoever answers has seen what was new. */
function leaveUnreadLine() {
  if (timeline.readUpTo === null) return;
  timeline.readUpTo = null;
  byId("messages").querySelector(".separator.new")?.remove();
}

function timelineChanged() {
  // It is asked at each scroll, and what does not change must cost nothing.
  const isHidden = timeline.isAtEnd || !timeline.messages.length;
  if (byId("jump").hidden !== isHidden) byId("jump").hidden = isHidden;
  const count = current?.unread ? String(current.unread) : "";
  if (byId("jump-count").textContent !== count) byId("jump-count").textContent = count;
  markRead();
}

function messageMenu(message, button) {
  const isMine = message.sender === user.id;
  const choices = [["reply", say("reply"), () => composer.reply(message)]];
  if (message.content) choices.push(["copy", say("copy"), () => copy(message.content)]);
  if (isMine && message.content) choices.push(["edit", say("edit"), () => composer.edit(message)]);
  if (isMine || user.mayModerate) choices.push(["delete", say("delete"), () => remove(message), true]);
  openMenu(button, choices);
}

async function copy(text) {
  await attempt(() => navigator.clipboard.writeText(text));
  announce(say("copied"));
}

async function remove(message) {
  const question = message.sender === user.id ? say("delete_question") : say("delete_of_question", { name: message.sender_info.name });
  if (await confirm(question, say("delete"))) {
    await attempt(() => salon.request(`/chats/messages/${message.id}/`, { method: "DELETE" }));
  }
}

async function attempt(deed) {
  byId("problem").hidden = true;
  try {
    return await deed();
  } catch (error) {
    showProblem(error.status || !error.code ? error.message : say("not_reached"));
  }
}

function showProblem(sentence) {
  byId("problem-text").textContent = sentence;
  byId("problem").hidden = false;
}

function notify(room, message) {
  if (isLooked() || globalThis.Notification?.permission !== "granted") return;
  const text = message.content || say(room.last.kind ?? "a_file");
  const body = `${message.sender_info.name}: ${text.slice(0, NOTED)}`;
  try {
    const shown = new Notification(room.name, { body, tag: `room-${room.id}` });
    shown.onclick = () => {
      window.focus();
      openRoom(room, { push: true });
      shown.close();
    };
  } catch {
    // Some phones let only a service worker do this.
  }
}

// The connection

function showState() {
  const { state } = salon;
  clearTimeout(bannerTimer);
  const banner = byId("banner");
  byId("state").textContent = say(state === "connected" ? "connected" : "connecting");
  document.body.dataset.state = state;
  if (state === "connected" || state === "idle") {
    banner.hidden = true;
    downSince = null;
    return;
  }
  downSince ??= Date.now();
  if (state === "closed") return;
  const show = () => {
    byId("banner-text").textContent = say(state === "offline" ? "offline_banner" : "reconnecting");
    byId("retry").hidden = state === "offline";
    banner.hidden = false;
  };
  if (banner.hidden && state !== "offline") bannerTimer = setTimeout(show, TOLD_AFTER - (Date.now() - downSince));
  else show();
}

function showEnd({ code, error }) {
  clearTimeout(bannerTimer);
  const isOut = ["not_authenticated", "revoked", "invalid_token", "token_expired", "identity_mismatch"].includes(code);
  byId("banner-text").textContent = isOut ? say("signed_out") : error;
  byId("banner").classList.add("final");
  byId("banner").hidden = false;
  byId("retry").hidden = true;
  byId("sign-in").hidden = !isOut;
  byId("compose").inert = true;
}

salon.on("state", showState);
salon.on("end", showEnd);
salon.on("message", received);
salon.on("changed", ({ room: { id }, message }) => {
  const room = rooms.get(id);
  if (!room) return;
  if (room === current) timeline.replace(message);
  cached.set(id, (cached.get(id) ?? []).map((each) => (each.seq === message.seq ? message : each)));
  if (!cached.get(id).length) cached.delete(id);
  if (room.last?.seq === message.seq) {
    room.last = summary(message);
    showRooms();
  }
});
salon.on("outgoing", ({ room_id, state }) => {
  if (room_id === current?.id && state !== "sent") showOutgoing();
});
salon.on("typing", ({ room: { id } }) => {
  if (id === current?.id) showHeader();
  showRooms();
});
let presenceTimer;
salon.on("presence", () => {
  // After a join, those of a whole school come at once.
  clearTimeout(presenceTimer);
  presenceTimer = setTimeout(() => {
    showHeader();
    showRooms();
  }, 100);
});
salon.on("gap", ({ room: { id } }) => {
  const room = rooms.get(id);
  cached.delete(id);
  if (room === current) timeline.hasNewest = false;
});
salon.on("joined", ({ room: { id, lastSeq } }) => {
  const room = rooms.get(id);
  if (room) room.last_seq = Math.max(room.last_seq, lastSeq);
});
salon.on("refused", ({ room: { id }, code }) => {
  if (code === "invalid_room") removeRoom(id);
});
salon.on("room_update", (change) => {
  const room = rooms.get(change.room_id);
  const isMe = change.participants?.some(({ id }) => id === user.id);
  if (change.kind === "participants_added") {
    if (!room && isMe) addRoom(change.room_id).catch(() => {});
    else if (room) room.member_count += change.participants.length;
  } else if (!room) {
    return;
  } else if (change.kind === "deleted" || (change.kind === "participants_removed" && isMe)) {
    removeRoom(change.room_id, "room_gone");
  } else if (change.kind === "participants_removed") {
    room.member_count -= change.participants.length;
  } else if (change.kind === "renamed" && !room.recipient) {
    room.name = change.name;
  } else if (change.kind === "read") {
    read(room, change);
    return;
  }
  showHeader();
  showRooms();
});

function read(room, { user_id, seq }) {
  if (user_id === user.id) {
    // At another of her devices.
    room.unread = Math.min(room.unread, Math.max(0, room.last_seq - seq));
    showRooms();
    timelineChanged();
    return;
  }
  room.marks ??= new Map();
  room.marks.set(user_id, Math.max(seq, room.marks.get(user_id) ?? 0));
  // Of whom nothing was heard yet, it is not known how far she is.
  if (room.marks.size < room.member_count - 1) return;
  room.seen_up_to = Math.max(room.seen_up_to ?? 0, Math.min(...room.marks.values()));
  if (room === current) timeline.setSeen(room.seen_up_to);
}

salon.on("error", ({ code, error }) => {
  if (code !== "token_expiring" && code !== "not_joined") showProblem(error);
});

// What is clicked

byId("search").addEventListener("input", showRooms);
byId("new-room").addEventListener("click", () =>
  newRoomDialog(salon, async (detail) => {
    openRoom(await addRoom(detail.id, detail), { push: true });
    byId("content").focus();
  }),
);
byId("about").addEventListener("click", () =>
  roomDialog(salon, current, {
    left: () => removeRoom(current?.id),
    changed(detail) {
      const room = rooms.get(detail.id);
      if (!room) return;
      room.member_count = detail.participants.length;
      room.name = detail.name;
      showHeader();
      showRooms();
    },
  }),
);
byId("back").addEventListener("click", () => {
  document.body.dataset.view = "rooms";
  history.pushState({}, "", location.pathname);
  const id = current?.id;
  closeRoom();
  byId("rooms").querySelector(`[data-room="${id}"]`)?.focus();
});
byId("jump").addEventListener("click", async () => {
  await timeline.jumpToEnd();
  byId("content").focus();
});
byId("problem-close").addEventListener("click", () => {
  byId("problem").hidden = true;
  byId("content").focus();
});
byId("retry").addEventListener("click", () => salon.retry());
byId("notifications").hidden = globalThis.Notification?.permission !== "default";
byId("notifications").addEventListener("click", async () => {
  await Notification.requestPermission();
  byId("notifications").hidden = Notification.permission !== "default";
});
byId("me").addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    byId("me").open = false;
    byId("me").querySelector("summary").focus();
  }
});
document.addEventListener("pointerdown", ({ target }) => {
  if (!byId("me").contains(target)) byId("me").open = false;
});
for (const event of ["focus", "visibilitychange"]) window.addEventListener(event, markRead);
document.addEventListener("visibilitychange", markRead);
window.addEventListener("popstate", () => {
  const room = rooms.get(Number(new URLSearchParams(location.search).get("room")));
  if (room) openRoom(room);
  else closeRoom();
});

// The beginning

byId("me-avatar").replaceWith(avatar(user));
for (const room of sorted()) joinRoom(room);
const opened = rooms.get(start.room);
if (opened) {
  cached.set(opened.id, start.messages);
  if (start.isChosen || !isNarrow()) openRoom(opened);
}
if (!current) closeRoom();
salon.connect();
