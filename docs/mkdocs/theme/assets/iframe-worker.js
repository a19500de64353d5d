/* Workers for pages opened as files.
 *
 * A browser starts no Worker from file:// addresses, and the search of this site runs in one. Here
 * a hidden frame takes its place: the worker's script runs in the frame, whose messages are passed
 * on. Pages from a server keep the browser's own Worker.
 */
(function () {
  "use strict";
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.onmessage = null;
      this.onerror = null;
      this.waiting = [];
      this.ready = false;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inner = this.frame.contentWindow;
      // What the script sends goes out as a message event of this object.
      inner.postMessage = (data) => this.tell(data);
      inner.importScripts = (...scripts) =>
        scripts.reduce((before, script) => before.then(() => this.load(script)), Promise.resolve());
      this.load(address).then(() => {
        this.ready = true;
        this.waiting.splice(0).forEach((data) => this.send(data));
      });
    }

    load(address) {
      return new Promise((done) => {
        const page = this.frame.contentDocument;
        const script = page.createElement("script");
        script.src = new URL(address, document.baseURI).href;
        script.onload = done;
        script.onerror = () => {
          if (this.onerror) this.onerror(new ErrorEvent("error", { filename: script.src }));
          done();
        };
        page.body.appendChild(script);
      });
    }

    tell(data) {
      setTimeout(() => {
        const event = new MessageEvent("message", { data });
        if (this.onmessage) this.onmessage(event);
        this.dispatchEvent(event);
      });
    }

    send(data) {
      setTimeout(() => {
        const inner = this.frame.contentWindow;
        inner.dispatchEvent(new inner.MessageEvent("message", { data }));
      });
    }

    postMessage(data) {
      if (this.ready) this.send(data);
      else this.waiting.push(data);
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.Worker = FrameWorker;
})();
