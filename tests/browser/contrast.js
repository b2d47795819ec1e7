// Body of a function: what stands on the page with less contrast than WCAG AA asks of normal text.

const parse = colour => (colour.match(/[\d.]+/g) ?? []).map(Number);
const blend = (over, under) => {
  const [r, g, b, alpha = 1] = over;
  return [r, g, b].map((value, index) => value * alpha + under[index] * (1 - alpha));
};
const ground = one => one === null ? [255, 255, 255]
  : blend(parse(getComputedStyle(one).backgroundColor), ground(one.parentElement));
const PARTS = [0.2126, 0.7152, 0.0722];
const light = colour => colour.reduce((sum, value, index) => {
  const share = value / 255;
  return sum + PARTS[index] * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
}, 0);
const isTold = one => one.checkVisibility() && !one.closest(".unseen, .skip, :disabled")
  && [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
return [...document.body.querySelectorAll("*")].filter(isTold).map(one => {
  const under = ground(one);
  const over = blend(parse(getComputedStyle(one).color), under);
  const [low, high] = [light(over), light(under)].sort((a, b) => a - b);
  return [one.outerHTML.slice(0, 120), (high + 0.05) / (low + 0.05)];
}).filter(([, ratio]) => ratio < 4.5);
