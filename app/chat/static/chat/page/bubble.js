// One message, as it is shown.

import { avatar, clock, dayName, el, fileSize, icon, linked, name, sameDay, say, start } from "./dom.js";

const GROUPED_WITHIN = 5 * 60_000; // ms

/** Whether a message goes on from the one before it, without her name again. */
export function continues(message, before) {
  return (
    before &&
    before.sender === message.sender &&
    sameDay(before.created_at, message.created_at) &&
    new Date(message.created_at) - new Date(before.created_at) < GROUPED_WITHIN
  );
}

/** The list's item for a message: with the day above it, and the line above what is new, where these belong. */
export function messageItem(message, { before, isFirstUnread, seenUpTo, isGroup, onMenu, onQuote }) {
  const isMine = message.sender === start.user.id;
  const isContinued = continues(message, before) && !isFirstUnread;
  const isSeen = isMine && message.seq <= seenUpTo;
  const item = el("li", { class: `item ${isMine ? "mine" : ""} ${isContinued ? "continued" : ""}`, tabindex: "-1", "data-seq": message.seq });
  if (!before || !sameDay(before.created_at, message.created_at)) item.append(separator("day", dayName(message.created_at)));
  if (isFirstUnread) item.append(separator("new", say("new_messages")));
  const bubble = el("article", { class: `bubble ${message.is_deleted ? "deleted" : ""}` });
  bubble.append(sender(message, isMine, isContinued, isGroup));
  if (message.is_deleted) {
    bubble.append(el("p", { class: "content" }, say("deleted")));
  } else {
    const reply = quoted(message.extra_data?.reply_to, onQuote);
    if (reply) bubble.append(reply);
    for (const file of message.attachments) bubble.append(attachment(file));
    if (message.content) bubble.append(el("p", { class: "content", dir: "auto" }, ...linked(message.content)));
  }
  const state = isMine && !message.is_deleted ? mark(isSeen ? "seen" : "sent") : null;
  const edited = !message.is_deleted && message.last_update > message.created_at ? el("span", {}, say("edited")) : null;
  bubble.append(el("p", { class: "meta" }, edited, clock(message.created_at), state));
  if (!message.is_deleted) {
    const label = say("actions_for", { name: message.sender_info.name });
    bubble.append(el("button", { type: "button", class: "more", tabindex: "-1", "aria-label": label, "aria-haspopup": "menu", onclick: onMenu }, icon("more")));
  }
  if (!isMine && isGroup) item.append(isContinued ? el("span", { class: "avatar gap" }) : avatar(person(message.sender_info)));
  item.append(bubble);
  return item;
}

/** The item of a message that is not stored yet: `entry` of the outbox, or a file on its way. */
export function outgoingItem(entry, { before, onRetry, onDiscard }) {
  const message = { sender: start.user.id, created_at: entry.created_at };
  const isContinued = continues(message, before);
  const isFailed = entry.state === "failed";
  const item = el("li", { class: `item mine outgoing ${isContinued ? "continued" : ""}`, tabindex: "-1", "data-client-id": entry.client_id });
  const bubble = el("article", { class: `bubble ${isFailed ? "failed" : ""}` }, el("p", { class: "unseen" }, say("you")));
  const reply = quoted(entry.extra_data?.reply_to);
  if (reply) bubble.append(reply);
  for (const file of entry.files ?? []) {
    bubble.append(el("p", { class: "file" }, icon("file"), el("span", {}, name(file.name), el("small", {}, fileSize(file.size)))));
  }
  if (entry.content) bubble.append(el("p", { class: "content", dir: "auto" }, ...linked(entry.content)));
  if (entry.files && entry.state === "sending") {
    bubble.append(el("progress", { max: 100, value: Math.round(entry.progress * 100), "aria-label": say("sending") }));
  }
  bubble.append(el("p", { class: "meta" }, clock(entry.created_at), mark(entry.state)));
  if (isFailed) bubble.append(el("p", { class: "why" }, entry.error.error));
  if (isFailed || entry.files) {
    const retry = isFailed && el("button", { type: "button", class: "small", onclick: onRetry }, say("try_again"));
    bubble.append(el("p", { class: "choices" }, retry, el("button", { type: "button", class: "small", onclick: onDiscard }, say(isFailed ? "discard" : "cancel"))));
  }
  item.append(bubble);
  return item;
}

export const person = (info) => ({ id: info.id, name: info.name, avatar: info.avatar });

function separator(kind, text) {
  return el("p", { class: `separator ${kind}` }, el("span", {}, text));
}

function sender(message, isMine, isContinued, isGroup) {
  const { id, name: called, role } = message.sender_info;
  const isShown = !isMine && !isContinued && isGroup;
  const label = el("p", { class: isShown ? "sender" : "unseen" }, name(isMine ? say("you") : called, { class: `hue-${id % 8}` }));
  if (!isMine && start.roles[role]) label.append(" ", el("span", { class: "role" }, start.roles[role]));
  return label;
}

const MARKS = { sending: "clock", sent: "check", seen: "checks", failed: "alert" };

function mark(state) {
  return el("span", { class: `state ${state}` }, icon(MARKS[state]), el("span", { class: "unseen" }, say(state)));
}

/** What a message answers to. It came from somebody's program: nothing in it is taken for what it says it is. */
export function quoted(reply, onQuote) {
  if (typeof reply !== "object" || reply === null || typeof reply.excerpt !== "string") return null;
  const by = typeof reply.name === "string" ? reply.name : "";
  const parts = [el("strong", {}, name(by)), el("span", { dir: "auto" }, reply.excerpt.slice(0, 200))];
  if (!onQuote || !Number.isSafeInteger(reply.seq)) return el("blockquote", { class: "quote" }, ...parts);
  const label = say("go_to_quoted", { name: by });
  return el("blockquote", {}, el("button", { type: "button", class: "quote", title: label, tabindex: "-1", onclick: () => onQuote(reply.seq) }, ...parts));
}

function attachment(file) {
  // Its address begins with what the server is called elsewhere; here it is this one, by whatever name.
  const url = new URL(new URL(file.url, location.origin).pathname, location.origin);
  const kind = file.content_type.split("/")[0];
  if (kind === "image") {
    const link = { class: "picture", href: url.href, target: "_blank", rel: "noopener" };
    return el("a", link, el("img", { src: url.href, alt: say("picture", { name: file.name }), loading: "lazy", decoding: "async" }));
  }
  if (kind === "audio") {
    return el("figure", { class: "sound" }, el("audio", { src: url.href, controls: true, preload: "none", "aria-label": file.kind === "voice_note" ? say("voice_note") : file.name }));
  }
  if (kind === "video") return el("video", { class: "picture", src: url.href, controls: true, preload: "none", "aria-label": file.name });
  const link = { class: "file", href: url.href, target: "_blank", rel: "noopener" };
  return el("a", link, icon("file"), el("span", {}, name(file.name), el("small", {}, fileSize(file.size))));
}
