// A page of which a part did not arrive (the network changed, the server just restarted) would stay
// empty for ever: it is asked for again. Not a module, so that it listens before they load.

addEventListener("error", event => {
  if (event.target.matches?.("script, link[rel=stylesheet]")) setTimeout(() => location.reload(), 2000);
}, true);
