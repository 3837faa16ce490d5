// Where a message is written: text, files, a voice note; an answer to another one, or another text for one's own.

import { announce, byId, duration, el, fileSize, icon, name, say, start } from "./dom.js";

const EXCERPT = 140; // characters of a message that is answered
const LONGEST_RECORDING = 300; // seconds
const COUNTED_FROM = 200; // characters left from which on they are counted

export class Composer {
  #actions;
  #text = byId("content");
  #context = byId("context");
  #tray = byId("tray");
  #files = [];
  #reply = null;
  #edited = null;
  #roomId = null;
  #recorder = null;
  #recordingTimer = null;
  #isMine = true;

  /** `actions`: send(content, reply), upload(files, options), edit(message, content), typing(isTyping), last(). */
  constructor(actions) {
    this.#actions = actions;
    byId("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => this.#typed());
    this.#text.addEventListener("keydown", (event) => this.#keyed(event));
    this.#text.addEventListener("paste", (event) => this.#addAll(event, event.clipboardData.files));
    const main = byId("conversation");
    main.addEventListener("dragover", (event) => {
      if (this.#isMine && event.dataTransfer.types.includes("Files")) event.preventDefault();
    });
    main.addEventListener("drop", (event) => this.#addAll(event, event.dataTransfer.files));
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", ({ target }) => {
      this.add(target.files);
      target.value = "";
    });
    byId("record").addEventListener("click", () => this.#record());
    byId("record").hidden = !navigator.mediaDevices || !globalThis.MediaRecorder;
    byId("stop-recording").addEventListener("click", () => this.#stopRecording(true));
    byId("cancel-recording").addEventListener("click", () => this.#stopRecording(false));
  }

  /** Write in another room; what was begun there is there again. */
  open(roomId, mayWrite) {
    this.#stopRecording(false);
    this.#clear();
    this.#roomId = roomId;
    this.#isMine = mayWrite;
    byId("compose").hidden = !mayWrite;
    byId("read-only").hidden = mayWrite;
    this.#setText(kept(roomId));
  }

  reply(message) {
    this.#edited = null;
    const excerpt = message.content || message.attachments.map((file) => file.name).join(", ");
    this.#reply = { id: message.id, seq: message.seq, name: message.sender_info.name, excerpt: excerpt.slice(0, EXCERPT) };
    this.#showContext(say("replying_to", { name: message.sender_info.name }), this.#reply.excerpt);
    this.#text.focus();
  }

  edit(message) {
    this.#reply = null;
    this.#edited = message;
    this.#showContext(say("editing"), message.content);
    this.#setText(message.content);
    this.#text.focus();
  }

  add(files) {
    for (const file of files) {
      if (this.#files.length >= start.limits.files) {
        this.#actions.problem(say("too_many_files", { count: start.limits.files }));
        break;
      }
      if (file.size > start.limits.fileSize) {
        this.#actions.problem(say("file_too_large", { name: file.name, size: fileSize(start.limits.fileSize) }));
        continue;
      }
      this.#files.push(file);
      this.#tray.append(this.#chip(file));
    }
    this.#tray.hidden = !this.#files.length;
    this.#sized();
    this.#text.focus();
  }

  #addAll(event, files) {
    if (!files.length || !this.#isMine) return;
    event.preventDefault();
    this.add(files);
  }

  #chip(file) {
    const remove = el("button", { type: "button", class: "icon-button", "aria-label": say("remove", { name: file.name }) }, icon("close"));
    const picture = el("span", { class: "thumb" }, icon("file"));
    const chip = el("li", { class: "chip" }, picture, el("span", {}, name(file.name), el("small", {}, fileSize(file.size))), remove);
    remove.addEventListener("click", () => {
      this.#files = this.#files.filter((each) => each !== file);
      chip.remove();
      this.#tray.hidden = !this.#files.length;
      this.#sized();
      this.#text.focus();
    });
    if (file.type.startsWith("image/")) thumbnail(file, picture);
    return chip;
  }

  #submit() {
    const content = this.#text.value.trim();
    if ([...content].length > start.limits.content) {
      this.#actions.problem(say("too_long", { count: start.limits.content }));
      return;
    }
    if (this.#edited) {
      if (content) this.#actions.edit(this.#edited, content);
      this.#cancel();
      return;
    } else if (this.#files.length) {
      this.#actions.upload(this.#files, { content, extraData: this.#extra() });
    } else if (content) {
      this.#actions.send(content, this.#extra());
    } else {
      this.#text.focus();
      return;
    }
    this.#clear();
    keep(this.#roomId, "");
    this.#text.focus();
  }

  #extra() {
    return this.#reply ? { reply_to: this.#reply } : null;
  }

  #clear() {
    this.#files = [];
    this.#reply = this.#edited = null;
    this.#tray.replaceChildren();
    this.#tray.hidden = true;
    this.#context.hidden = true;
    this.#setText("");
  }

  #showContext(title, excerpt) {
    const cancel = el("button", { type: "button", class: "icon-button", "aria-label": say("cancel") }, icon("close"));
    cancel.addEventListener("click", () => this.#cancel());
    this.#context.replaceChildren(el("div", {}, el("strong", {}, title), el("span", { dir: "auto" }, excerpt)), cancel);
    this.#context.hidden = false;
  }

  #cancel() {
    if (this.#edited) this.#setText(kept(this.#roomId));
    this.#reply = this.#edited = null;
    this.#context.hidden = true;
    this.#text.focus();
  }

  #typed() {
    this.#sized();
    if (this.#edited) return;
    keep(this.#roomId, this.#text.value);
    this.#actions.typing(Boolean(this.#text.value.trim()));
  }

  #setText(text) {
    this.#text.value = text;
    this.#sized();
  }

  #sized() {
    // Not every browser has `field-sizing: content`.
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
    const left = start.limits.content - [...this.#text.value.trim()].length;
    byId("left").textContent = left < COUNTED_FROM ? say("characters_left", { count: left }) : "";
    byId("left").classList.toggle("notice", left < 0);
    const isEmpty = !this.#text.value.trim() && !this.#files.length;
    byId("send").classList.toggle("idle", isEmpty);
  }

  #keyed(event) {
    if (event.isComposing) return;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    if (event.key === "Enter" && !event.shiftKey && !isTouch) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && !this.#context.hidden) {
      event.preventDefault();
      this.#cancel();
    } else if (event.key === "ArrowUp" && !this.#text.value && !this.#files.length) {
      const message = this.#actions.last();
      if (message?.content) {
        event.preventDefault();
        this.edit(message);
      }
    }
  }

  // Voice notes

  async #record() {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      this.#actions.problem(say("no_microphone"));
      return;
    }
    const type = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"].find((each) => MediaRecorder.isTypeSupported(each));
    const recorder = new MediaRecorder(stream, { mimeType: type, audioBitsPerSecond: 32_000 });
    const parts = [];
    const begun = Date.now();
    recorder.ondataavailable = ({ data }) => data.size && parts.push(data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      if (!recorder.isWanted || !parts.length) return;
      const [kind] = recorder.mimeType.split(";");
      const ending = { "audio/webm": "webm", "audio/mp4": "m4a", "audio/ogg": "ogg" }[kind] ?? "webm";
      const file = new File(parts, `voice-note.${ending}`, { type: kind });
      this.#actions.upload([], { voiceNote: file, extraData: this.#extra() });
      this.#clear();
    };
    this.#recorder = recorder;
    recorder.start(250);
    const show = () => {
      const seconds = (Date.now() - begun) / 1000;
      byId("recorded").textContent = duration(seconds);
      if (seconds > LONGEST_RECORDING) this.#stopRecording(true);
    };
    show();
    this.#recordingTimer = setInterval(show, 500);
    byId("recording").hidden = false;
    byId("writing").hidden = true;
    announce(say("recording"));
    byId("stop-recording").focus();
  }

  #stopRecording(isWanted) {
    if (!this.#recorder) return;
    clearInterval(this.#recordingTimer);
    this.#recorder.isWanted = isWanted;
    this.#recorder.stop();
    this.#recorder = null;
    byId("recording").hidden = true;
    byId("writing").hidden = false;
    this.#text.focus();
  }
}

/** A small picture of a picture, drawn here: the page may show nothing that is not from its server. */
async function thumbnail(file, place) {
  try {
    const picture = await createImageBitmap(file, { resizeHeight: 96 });
    const canvas = el("canvas", { width: picture.width, height: picture.height, role: "img", "aria-label": file.name });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    place.replaceChildren(canvas);
  } catch {
    // It says that it is a picture, and is none.
  }
}

const key = (roomId) => `salon.draft.${start.user.id}.${roomId}`;

function kept(roomId) {
  return sessionStorage.getItem(key(roomId)) ?? "";
}

function keep(roomId, text) {
  if (text) sessionStorage.setItem(key(roomId), text);
  else sessionStorage.removeItem(key(roomId));
}
