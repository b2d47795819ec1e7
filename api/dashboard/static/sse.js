// Server-Sent Events read from a fetch: EventSource could not send the Authorization header.

/** Takes text as it comes and returns the frames that it completes. */
export class FrameParser {
  #rest = "";
  #frame = blank();

  push(text) {
    // A carriage return at the very end may be half of a line end.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.flatMap(line => this.#take(line));
  }

  #take(line) {
    if (line === "") {
      const frame = this.#frame;
      this.#frame = blank();
      return [{ ...frame, data: frame.data.join("\n") }];
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "data") this.#frame.data.push(value);
    else if (field === "event") this.#frame.event = value;
    else if (field === "id" && !value.includes("\0")) this.#frame.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.#frame.retry = Number(value);
    return [];
  }
}

const blank = () => ({ event: "message", data: [], id: null, retry: null });

/** Frames of an answer until it ends; an unfinished last one is dropped. */
export async function* frames(answer) {
  const parser = new FrameParser();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read())
    yield* parser.push(part.value);
}
