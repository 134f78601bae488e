"use strict";
document.documentElement.classList.add("scripted");

/* The items' filter. A part that matches keeps its whole in view. */
(() => {
  const table = document.querySelector(".items");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const [search, verdict, stage, shown] = ["search", "verdict", "stage", "shown"].map((id) => document.getElementById(id));
  const matches = (row, i, words) =>
    words.every((word) => texts[i].includes(word)) &&
    (!verdict.value || row.dataset.verdict === verdict.value) &&
    (!stage.value || row.dataset.stage === stage.value);
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let whole = null;
    let count = 0;
    rows.forEach((row, i) => {
      const hit = matches(row, i, words);
      if (!row.classList.contains("part")) whole = row;
      row.hidden = !hit;
      if (hit) {
        whole.hidden = false;
        count += 1;
      }
    });
    shown.textContent = `${count} of ${rows.length}`;
  };
  for (const field of [search, verdict, stage]) field.addEventListener("input", apply);
  search.form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();

/* Pictures at full size. */
(() => {
  const dialog = document.getElementById("large");
  const image = dialog.querySelector("img");
  for (const small of document.querySelectorAll("figure img")) {
    small.tabIndex = 0;
    const open = () => {
      image.src = small.src;
      image.alt = small.alt;
      dialog.showModal();
    };
    small.addEventListener("click", open);
    small.addEventListener("keydown", (event) => event.key === "Enter" && open());
  }
  dialog.addEventListener("click", (event) => event.target !== image && dialog.close());
})();

/* Scenes: points into a pixel buffer with a depth buffer, lines over it. No WebGL: it is not to be had
   everywhere, browsers allow few of its contexts, and this many points need no help. */
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const REACH = 1.6;
const NEAR = 0.02;

class Viewer {
  constructor(canvas) {
    const data = JSON.parse(document.getElementById(canvas.dataset.scene).textContent);
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.points = Float32Array.from(new Uint16Array(bytes(data.points).buffer), (v) => (v / 65535) * 2 * REACH - REACH);
    this.colours = bytes(data.colours);
    this.path = new Float32Array(bytes(data.path).buffer);
    this.frusta = new Float32Array(bytes(data.frusta).buffer);
    this.data = data;
    this.far = this.fit();
    this.reset();
    this.listen();
  }

  /* From how far away most of the points and all of the path are in view. */
  fit() {
    const apart = (array, step) => Array.from({ length: array.length / step }, (_, i) => Math.hypot(array[i * step], array[i * step + 1], array[i * step + 2])).sort((a, b) => a - b);
    const points = apart(this.points, 3);
    const bulk = points.length ? points[Math.floor(0.9 * (points.length - 1))] : 0;
    return Math.max(1, 2.3 * Math.max(bulk, 0.9 * apart(this.path, 3).at(-1)));
  }

  reset() {
    this.yaw = this.data.yaw;
    this.pitch = 0.42;
    this.distance = this.far;
    this.request();
  }

  turn(yaw, pitch) {
    this.yaw -= yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.request();
  }

  zoom(factor) {
    this.distance = Math.max(0.25, Math.min(14, this.distance * factor));
    this.request();
  }

  request() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  listen() {
    const { canvas } = this;
    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      const span = canvas.clientWidth;
      const share = 4 / (span * fingers.size);
      this.turn((now[0] - before[0]) * share, (now[1] - before[1]) * share);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        this.zoom(apart(before) / apart(now));
      }
      fingers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    // With Ctrl (as a touch pad's pinch reports itself too), or once the view has the focus: else the page scrolls.
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== canvas) return;
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.0015)));
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", (event) => {
      const action = {
        ArrowLeft: () => this.turn(-0.12, 0), ArrowRight: () => this.turn(0.12, 0),
        ArrowUp: () => this.turn(0, -0.1), ArrowDown: () => this.turn(0, 0.1),
        "+": () => this.zoom(0.85), "=": () => this.zoom(0.85), "-": () => this.zoom(1.18), 0: () => this.reset(),
      }[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    });
    for (const button of canvas.parentElement.querySelectorAll("button")) {
      const act = { in: () => this.zoom(0.8), out: () => this.zoom(1.25), reset: () => this.reset() }[button.dataset.do];
      button.addEventListener("click", act);
    }
    new ResizeObserver(() => this.request()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.request());
  }

  /* Rows right, down, forward and the eye, for a camera that looks at the middle. */
  look() {
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const forward = [cy * cp, sy * cp, -sp];
    const right = [sy, -cy, 0];
    const down = [-cy * sp, -sy * sp, -cp];
    return { right, down, forward };
  }

  project(x, y, z, out) {
    const { right, down, forward } = this.axes;
    const depth = forward[0] * x + forward[1] * y + forward[2] * z + this.distance;
    if (depth < NEAR) return false;
    out[0] = this.width / 2 + (this.focal * (right[0] * x + right[1] * y + right[2] * z)) / depth;
    out[1] = this.height / 2 + (this.focal * (down[0] * x + down[1] * y + down[2] * z)) / depth;
    out[2] = depth;
    return true;
  }

  draw() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.buffer = this.context.createImageData(width, height);
      this.depth = new Float32Array(width * height);
    }
    Object.assign(this, { width, height, ratio, focal: 1.15 * Math.min(width, height), axes: this.look() });
    this.drawPoints();
    this.context.putImageData(this.buffer, 0, 0);
    this.drawCameras();
  }

  drawPoints() {
    const { width, height, points, colours, depth } = this;
    const pixels = new Uint32Array(this.buffer.data.buffer);
    pixels.fill(0);
    depth.fill(Infinity);
    const at = [0, 0, 0];
    const base = this.ratio * (points.length < 12000 ? 3 : 2.2);
    for (let i = 0; i < points.length; i += 3) {
      if (!this.project(points[i], points[i + 1], points[i + 2], at)) continue;
      const size = Math.max(1, Math.min(6 * this.ratio, Math.round((base * this.far) / at[2])));
      const left = Math.round(at[0] - size / 2);
      const top = Math.round(at[1] - size / 2);
      const colour = 0xff000000 | (colours[i + 2] << 16) | (colours[i + 1] << 8) | colours[i];
      for (let y = Math.max(0, top); y < Math.min(height, top + size); y++) {
        for (let x = Math.max(0, left); x < Math.min(width, left + size); x++) {
          const k = y * width + x;
          if (at[2] < depth[k]) {
            depth[k] = at[2];
            pixels[k] = colour;
          }
        }
      }
    }
  }

  drawCameras() {
    const { context, data, path, frusta } = this;
    const style = getComputedStyle(document.documentElement);
    const [first, last] = ["--path-a", "--path-b"].map((name) => rgb(style.getPropertyValue(name)));
    const colour = (share) => `rgb(${first.map((v, i) => Math.round(v + (last[i] - v) * share))})`;
    context.lineJoin = "round";
    if (data.ordered) {
      context.lineWidth = 2.5 * this.ratio;
      for (let i = 3; i < path.length; i += 3) this.line(path.subarray(i - 3, i), path.subarray(i, i + 3), colour(i / path.length));
    }
    context.lineWidth = this.ratio;
    context.globalAlpha = 0.75;
    for (let i = 0; i < frusta.length; i += 12) this.frustum(frusta.subarray(i, i + 12), colour(data.ordered ? i / frusta.length : 0));
    context.globalAlpha = 1;
  }

  frustum(camera, colour) {
    const { size, half_width: w, half_height: h } = this.data;
    const corner = (a, b) => [0, 1, 2].map((k) => camera[k] + size * (a * w * camera[3 + k] + b * h * camera[6 + k] + camera[9 + k]));
    const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
    corners.forEach((one, i) => {
      this.line(camera, one, colour);
      this.line(one, corners[(i + 1) % 4], colour);
    });
  }

  line(a, b, colour) {
    const [p, q] = [[0, 0, 0], [0, 0, 0]];
    if (!this.project(a[0], a[1], a[2], p) || !this.project(b[0], b[1], b[2], q)) return;
    this.context.strokeStyle = colour;
    this.context.beginPath();
    this.context.moveTo(p[0], p[1]);
    this.context.lineTo(q[0], q[1]);
    this.context.stroke();
  }
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.trim().slice(at, at + 2), 16));

/* Unpacked when first seen: a page may hold many. */
(() => {
  const waiting = new Set(document.querySelectorAll("canvas[data-scene]"));
  const begin = (canvas) => {
    if (waiting.delete(canvas)) new Viewer(canvas).draw();
  };
  const watcher = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach((one) => begin(one.target)), { rootMargin: "300px" });
  for (const canvas of waiting) watcher.observe(canvas);
  addEventListener("beforeprint", () => [...waiting].forEach(begin));
})();
