// The unmodified `@1backend/client`, as somebody's script uses it: one JSON object of what is wanted
// comes as a line on standard input, one with what was answered goes out.

import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";

const [packages] = process.argv.slice(2);
const entry = pathToFileURL(`${packages}/node_modules/@1backend/client/dist/index.mjs`);
const { Configuration, ContainerSvcApi, UserSvcApi } = await import(entry);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const asked = JSON.parse((await lines.next()).value);

const users = new UserSvcApi(new Configuration({ basePath: asked.url }));
const logged = async login => {
  const { token } = await users.login({ body: login });
  const apiKey = `Bearer ${token.token}`;
  return new ContainerSvcApi(new Configuration({ basePath: asked.url, apiKey }));
};
const containers = await logged(asked.login);
const builders = await logged(asked.builder);

const status = async call => {
  try {
    await call;
    return 200;
  } catch (error) {
    return error.response.status;
  }
};

const name = asked.run.names[0];
const said = {
  first: await containers.runContainer({ body: asked.run }),
  second: await containers.runContainer({ body: asked.run }),
  runs: await containers.containerIsRunning({ name }),
  listed: await containers.listContainers({ body: {} }),
  summary: await containers.containerSummary({ name, lines: 5 }),
  logs: await containers.listContainerLogs({ body: {} }),
  info: await containers.containerDaemonInfo(),
  host: await containers.getHost(),
  pullable: await containers.imagePullable({ imageName: asked.run.image }),
  absent: await containers.imagePullable({ imageName: asked.absent }),
  stopped: await containers.stopContainer({ body: { name } }),
  runsStill: await containers.containerIsRunning({ name }),
  unknown: await status(containers.stopContainer({ body: { name: "nobody" } })),
  denied: await status(containers.buildImage({ body: asked.build })),
  built: await builders.buildImage({ body: asked.build }),
  ofBuild: await builders.imagePullable({ imageName: asked.build.name }),
  elsewhere: await status(builders.buildImage({ body: { name: "a", contextPath: "/etc" } })),
  bad: await status(containers.runContainer({ body: { image: "" } })),
};
console.log(JSON.stringify(said));
process.exit(0);
