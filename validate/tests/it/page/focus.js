// What has the focus, and how that is shown: the outline's width in pixels and its contrast with what is around it.
(() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const luminance = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    const linear = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const colours = ["white"];
  const behind = [];
  for (let node = element.parentElement; node; node = node.parentElement) behind.unshift(getComputedStyle(node).backgroundColor);
  const [ring, paper] = [luminance([...colours, ...behind, style.outlineColor]), luminance([...colours, ...behind])];
  element.setAttribute("data-seen", "");
  return {
    what: `${element.localName}${element.id ? `#${element.id}` : ""}`,
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    contrast: (Math.max(ring, paper) + 0.05) / (Math.min(ring, paper) + 0.05),
    inView: element.getBoundingClientRect().bottom > 0 && element.getBoundingClientRect().top < innerHeight,
  };
})()
