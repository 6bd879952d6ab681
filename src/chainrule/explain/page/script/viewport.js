// Which part of the drawing is seen: drag or scroll to move, pinch or Ctrl and scroll to zoom.

const SMALLEST = 0.02;
const LARGEST = 2.5;

export class Viewport {
  /** `changed` is called (at most once a frame) when another part is seen. */
  constructor(element, changed) {
    this.element = element;
    this.changed = changed;
    this.x = 0;
    this.y = 0;
    this.zoom = 1;
    this.moved = false;
    this.pointers = new Map();
    this.asked = false;
    element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => this.up(event));
    new ResizeObserver(() => this.request()).observe(element);
  }

  get size() {
    return { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
  }

  /** The seen rectangle in the drawing's units. */
  get seen() {
    const { width, height } = this.size;
    return { x: this.x, y: this.y, width: width / this.zoom, height: height / this.zoom };
  }

  request() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.changed();
    });
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.zoomBy(Math.exp(-event.deltaY * 0.008), event.offsetX, event.offsetY);
    } else {
      const unit = event.deltaMode === 1 ? 20 : 1;
      this.x += (event.deltaX * unit) / this.zoom;
      this.y += (event.deltaY * unit) / this.zoom;
      this.request();
    }
  }

  down(event) {
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.moved = false;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.x;
    const dy = event.clientY - before.y;
    if (!this.moved && Math.hypot(dx, dy) < 4) return;
    if (!this.moved) this.element.setPointerCapture(event.pointerId);
    this.moved = true;
    if (this.pointers.size === 2) this.pinch(event, before);
    this.x -= dx / this.zoom / this.pointers.size;
    this.y -= dy / this.zoom / this.pointers.size;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.request();
  }

  pinch(event, before) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    const frame = this.element.getBoundingClientRect();
    const x = (event.clientX + other.x) / 2 - frame.left;
    const y = (event.clientY + other.y) / 2 - frame.top;
    if (was > 0) this.zoomBy(is / was, x, y);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
  }

  /** Zoom, keeping the point at (x, y) of the element where it is; its middle if left out. */
  zoomBy(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const zoom = Math.min(LARGEST, Math.max(SMALLEST, this.zoom * factor));
    this.x += x / this.zoom - x / zoom;
    this.y += y / this.zoom - y / zoom;
    this.zoom = zoom;
    this.request();
  }

  /** Show a whole rectangle, but no larger than its natural size. */
  fit(box, smallest = SMALLEST) {
    const { width, height } = this.size;
    const margin = 24;
    const both = Math.min((width - 2 * margin) / box.width, (height - 2 * margin) / box.height, 1);
    this.zoom = Math.max(smallest, both);
    this.x = box.x + box.width / 2 - width / 2 / this.zoom;
    this.y = box.y + box.height / 2 - height / 2 / this.zoom;
    this.request();
  }

  /** Move, if need be, so that a rectangle is seen with some room around it. */
  show(box) {
    if (this.zoom < 0.45) this.zoom = 0.8;
    const seen = this.seen;
    const room = 40 / this.zoom;
    this.x = shifted(seen.x, seen.width, box.x - room, box.width + 2 * room);
    this.y = shifted(seen.y, seen.height, box.y - room, box.height + 2 * room);
    this.request();
  }
}

// The window's start so that [start, start + length] is inside it, or its middle in the middle.
function shifted(from, size, start, length) {
  if (length > size) return start + length / 2 - size / 2;
  if (start < from || start + length > from + size) return start + length / 2 - size / 2;
  return from;
}
