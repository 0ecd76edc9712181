// The contrast of each text that the page shows with what is painted behind it, as WCAG 2 defines it.
(() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    return context.getImageData(0, 0, 1, 1).data;
  };
  const luminance = ([r, g, b]) => {
    const linear = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const behind = (element) => {
    const colours = [];
    for (let node = element; node; node = node.parentElement) colours.unshift(getComputedStyle(node).backgroundColor);
    return ["white", ...colours];
  };
  const contrast = (colour, element) => {
    const below = behind(element);
    const [text, paper] = [luminance(painted([...below, colour])), luminance(painted(below))];
    return (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
  };
  const found = [];
  const check = (what, colour, element) => found.push({ what, contrast: contrast(colour, element) });
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || element.closest("script, option") || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(element);
    check(text.slice(0, 60), element instanceof SVGElement ? style.fill : style.color, element);
  }
  for (const field of document.querySelectorAll("select, input[type=search]")) {
    if (field.checkVisibility()) check(field.id, getComputedStyle(field).color, field);
    if (field.placeholder) check(field.placeholder, getComputedStyle(field, "::placeholder").color, field);
  }
  return { paper: [...painted(behind(document.body)).slice(0, 3)], found };
})()
