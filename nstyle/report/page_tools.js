const $ = id => document.getElementById(id);

/** Makes an element; texts only ever become text nodes, so nothing in them is read as HTML. */
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function s(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
/** Lists such as [conv1_1,conv2_1] may break after a comma; commands, which are copied, stay as they are. */
function breakable(text) {
  return text.replaceAll(/,(?=\S)/g, ",\u200b");
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  const shown = children.flat(3).filter(child => child !== null && child !== undefined && child !== "");
  element.append(...shown.map(child => typeof child === "string" && element.localName !== "code" ? breakable(child) : child));
  return element;
}

/** Formats a number with some significant digits; integers as they are. */
function format(value, precision = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-3 && size < 1e5)) {
    const text = Number.isInteger(value) || size >= 10 ** (precision - 1) ? String(Math.round(value)) : value.toPrecision(precision);
    return text.replace("-", "−");
  }
  return powerOfTen(value, Math.min(precision, 3));
}
function powerOfTen(value, precision) {
  const [digits, exponent] = value.toExponential(precision - 1).split("e");
  const raised = [...String(+exponent)].map(c => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]).join("");
  const factor = String(+digits).replace("-", "−");
  return factor === "1" ? `10${raised}` : `${factor}·10${raised}`;
}

function copyButton(text, what) {
  const button = h("button", { type: "button", "aria-label": `Copy ${what}`, onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = h("textarea", { class: "unseen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  return button;
}

/** Lays the first picture over the second, up to a divider that a slider moves; one alone is shown as it is. */
function layered(size, pictures) {
  const stage = h("div", { class: "stage", style: `aspect-ratio: ${size.width} / ${size.height}; --at: 50%` });
  const [over, under] = pictures;
  for (const picture of [...pictures].reverse())
    stage.append(h("img", { src: picture.src, alt: picture.alt, class: under && picture === over ? "over" : null }));
  if (under) {
    const slider = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `How much of ${over.name} covers ${under.name}`, id: "slider" });
    const move = () => {
      stage.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${over.name} ${slider.value} %, ${under.name} ${100 - slider.value} %`);
    };
    slider.addEventListener("input", move);
    move();
    stage.append(slider, h("span", { class: "divider" }));
  }
  stage.append(...pictures.map(({ name }) => h("b", { class: "badge", "data-slot": name }, name)));
  return stage;
}

/** The button `theme` goes from light to dark and back, beginning with what the system prefers; it says where to. */
function startTheme() {
  const dark = () => (document.documentElement.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => { $("theme").textContent = dark() ? "Light" : "Dark"; };
  $("theme").addEventListener("click", () => {
    document.documentElement.style.colorScheme = dark() ? "light" : "dark";
    show();
  });
  show();
}
