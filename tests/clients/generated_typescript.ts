// Uses what @hey-api/openapi-ts and openapi-typescript made: `node generated_typescript.js URL
// PASSWORD REFERENCE`. Prints the uuids of the images that each of them brought and deleted.
import createClient from "openapi-fetch";
import { client } from "./hey/client.gen";
import { deleteImage, listImages, logIn, submitImage } from "./hey/sdk.gen";
import type { Image } from "./hey/types.gen";
import type { paths } from "./types";

declare const process: { argv: string[] };

const [url, password, reference] = process.argv.slice(2) as [string, string, string];

function demand(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

async function withHeyApi(): Promise<[string, string]> {
  client.setConfig({ baseUrl: url });
  const session = await logIn({ body: { username: "admin", password }, throwOnError: true });
  const token = session.data.access;
  client.setConfig({ baseUrl: url, auth: token });
  const made = await submitImage({
    body: { reference },
    headers: { "Idempotency-Key": "hey-api" },
    throwOnError: true,
  });
  const image = made.data as Image;
  const listed = await listImages({ query: { limit: 200 }, throwOnError: true });
  demand(listed.data.items.some((each) => each.uuid === image.uuid), listed.data);
  const stale = await deleteImage({ path: { uuid: image.uuid }, headers: { "if-match": '"77"' } });
  demand(stale.error?.code === "stale_revision", stale.error);
  const gone = await deleteImage({ path: { uuid: image.uuid }, throwOnError: true });
  demand(gone.data.status === "DELETED", gone.data);
  return [image.uuid, token];
}

async function withOpenapiFetch(token: string): Promise<string> {
  const api = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });
  const made = await api.POST("/yard/v1/images", {
    body: { reference },
    params: { header: { "Idempotency-Key": "openapi-typescript" } },
  });
  demand(made.data !== undefined, made.error);
  const uuid = made.data.uuid;
  const listed = await api.GET("/yard/v1/images", { params: { query: { limit: 200 } } });
  demand(listed.data?.items.some((each) => each.uuid === uuid) ?? false, listed.error);
  const gone = await api.DELETE("/yard/v1/images/{uuid}", { params: { path: { uuid } } });
  demand(gone.data?.status === "DELETED", gone.error);
  return uuid;
}

withHeyApi().then(async ([first, token]) => console.log(first, await withOpenapiFetch(token)));
