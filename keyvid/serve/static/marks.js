// Marks on a stretch of time that mouse, finger and keyboard move: beats, keyframes.

const MANY_FRAMES = 6;

export class Marks {
  /**
   * A lane of marks.
   *
   * noun: what one mark is called. length, step: of the lane and of a move, in the unit of the values.
   * most: the last value.
   * tell(value): the value in words. isFixed(index): whether a mark stays. canAdd: whether marks come
   * and go. onChange(values): what a visitor has done.
   */
  constructor({ noun, length, most = length, step, tell, isFixed = () => false, canAdd, onChange }) {
    Object.assign(this, { noun, length, most, step, tell, isFixed, canAdd, onChange });
    this.values = [];
    this.lane = document.createElement("div");
    this.lane.className = `lane lane-${noun}`;
    this.lane.setAttribute("role", "group");
    this.lane.setAttribute("aria-label", `${noun}s`);
    if (canAdd) {
      this.lane.addEventListener("dblclick", (event) => {
        if (event.target === this.lane) this.add(this.#valueAt(event.clientX));
      });
    }
  }

  show(values) {
    this.values = [...values];
    this.lane.replaceChildren(...values.map((value, index) => this.#mark(value, index)));
  }

  add(value) {
    const added = this.#round(value);
    const values = [...this.values, added].sort((a, b) => a - b);
    if (new Set(values).size < values.length) return;
    this.#change(values, values.indexOf(added));
  }

  remove(index) {
    this.#change(this.values.toSpliced(index, 1), Math.min(index, this.values.length - 2));
  }

  /** Moves a mark as far as its neighbours let it. */
  move(index, value) {
    const after = index ? this.values[index - 1] + this.step : 0;
    const last = index === this.values.length - 1;
    const before = last ? this.most : this.values[index + 1] - this.step;
    const bounded = this.#round(Math.min(Math.max(value, after), before));
    if (bounded !== this.values[index]) this.#change(this.values.with(index, bounded), index);
  }

  #change(values, focused) {
    const isDragging = this.dragged !== undefined;
    this.values = values;
    if (isDragging) this.#place(this.lane.children[focused], values[focused]);
    else {
      this.show(values);
      this.lane.children[focused]?.focus();
    }
    this.onChange(values);
  }

  #mark(value, index) {
    const mark = Object.assign(document.createElement("button"), { type: "button", className: "mark" });
    mark.setAttribute("role", "slider");
    mark.setAttribute("aria-label", `${this.noun} ${index + 1}`);
    mark.setAttribute("aria-valuemin", "0");
    mark.setAttribute("aria-valuemax", this.most);
    this.#place(mark, value);
    if (this.isFixed(index)) mark.disabled = true;
    mark.addEventListener("keydown", (event) => this.#onKey(event, index));
    mark.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // else the browser may take it for the drag of a selection
      mark.setPointerCapture(event.pointerId);
      this.dragged = index;
      mark.focus();
    });
    mark.addEventListener("pointermove", (event) => {
      if (this.dragged === index) this.move(index, this.#valueAt(event.clientX));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      mark.addEventListener(end, () => (this.dragged = undefined));
    }
    return mark;
  }

  #place(mark, value) {
    mark.style.left = `${(100 * value) / this.length}%`;
    mark.setAttribute("aria-valuenow", value);
    mark.setAttribute("aria-valuetext", this.tell(value));
    mark.title = this.tell(value);
  }

  #onKey(event, index) {
    const value = this.values[index];
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -MANY_FRAMES, PageUp: MANY_FRAMES };
    if (event.key in steps) this.move(index, value + steps[event.key] * this.step);
    else if (event.key === "Home") this.move(index, 0);
    else if (event.key === "End") this.move(index, this.most);
    else if (this.canAdd && ["Delete", "Backspace"].includes(event.key)) this.remove(index);
    else return;
    event.preventDefault();
  }

  #valueAt(clientX) {
    const { left, width } = this.lane.getBoundingClientRect();
    return ((clientX - left) / width) * this.length;
  }

  #round(value) {
    const bounded = Math.min(Math.max(value, 0), this.most);
    return Number((Math.round(bounded / this.step) * this.step).toFixed(4));
  }
}
