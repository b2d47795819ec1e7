// The unmodified `tus-js-client`, as somebody's script uses it: one JSON object of options comes
// as a line on standard input, one JSON object goes out for each thing that happens.

import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [packages] = process.argv.slice(2);
const { Upload, FileUrlStorage } = createRequire(`${packages}/`)("tus-js-client");
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const asked = JSON.parse((await lines.next()).value);
const say = said => console.log(JSON.stringify(said));
let methods = [];
let chunks = 0;

const upload = new Upload(createReadStream(asked.file), {
  endpoint: asked.endpoint,
  headers: { Authorization: `Bearer ${asked.token}` },
  metadata: asked.metadata,
  chunkSize: asked.chunk,
  retryDelays: [0, 200, 500, 1000, 2000, ...Array(12).fill(4000)],
  urlStorage: new FileUrlStorage(asked.storage),
  storeFingerprintForResuming: true,
  async onBeforeRequest(request) {
    methods.push(request.getMethod());
    if (chunks === asked.waitAfter && request.getMethod() === "PATCH") {
      asked.waitAfter = null;
      say({ waits: upload.url });
      await lines.next(); // until we are told to go on
    }
  },
  onChunkComplete() {
    chunks += 1;
    if (chunks === asked.stopAfter) upload.abort(asked.terminate ?? false).then(() => finish("aborted"));
  },
  onSuccess: () => finish("done"),
  onError: error => finish("failed", { status: error.originalResponse?.getStatus() ?? 0 }),
});

function finish(how, more = {}) {
  say({ how, url: upload.url, methods, ...more });
  process.exit(0);
}

const earlier = await upload.findPreviousUploads();
if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
upload.start();
