"use client";

import { type FormEvent, useEffect, useState } from "react";
import { useSalon } from "./useSalon";

interface RoomSummary {
  id: number;
  name: string;
}

/** In production: `const answer = await fetch("/api/chat-token")`, which your backend signs for who is logged in. */
async function token(): Promise<string | null> {
  return process.env.NEXT_PUBLIC_API_TOKEN || null;
}

export function Chat() {
  const [rooms, setRooms] = useState<RoomSummary[]>([]);
  const [roomId, setRoomId] = useState<number | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [text, setText] = useState("");
  const chat = useSalon(roomId, token);

  useEffect(() => {
    const load = async () => {
      const headers = { Authorization: `Bearer ${await token()}` };
      const answer = await fetch(`${process.env.NEXT_PUBLIC_API_BASE_URL}/chats/rooms/`, { headers });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.detail);
      setRooms(body.results);
      setRoomId(body.results[0]?.id ?? null);
    };
    load().catch((error: Error) => setProblem(error.message));
  }, []);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!text.trim()) return;
    chat.send(text);
    setText("");
  };

  return (
    <main>
      <h1>Salon in Next.js</h1>
      <p role="status">{chat.state}</p>
      {(problem ?? chat.end) && <p role="alert">{problem ?? chat.end}</p>}
      <label>
        Room{" "}
        <select value={roomId ?? ""} onChange={(event) => setRoomId(Number(event.target.value))}>
          {rooms.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <ol aria-label="Messages">
        {chat.messages.map((message) => (
          <li key={message.uuid}>
            <b>{message.sender_info.name}</b> {message.is_deleted ? <i>deleted</i> : message.content}
          </li>
        ))}
        {chat.outgoing.map((entry) => (
          <li key={entry.client_id}>
            {entry.content} <small>{entry.state}</small>{" "}
            {entry.state === "failed" && <button onClick={() => chat.retry(entry)}>Try again</button>}
          </li>
        ))}
      </ol>
      <p aria-live="polite">{chat.typing.length > 0 && `${chat.typing.join(", ")} …`}</p>
      <form onSubmit={submit}>
        <label>
          Message{" "}
          <input
            value={text}
            onChange={(event) => {
              setText(event.target.value);
              chat.startTyping();
            }}
          />
        </label>
        <button>Send</button>
      </form>
    </main>
  );
}
