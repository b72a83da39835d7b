// The theme searches in a worker, which browsers refuse from file://. There, its script runs in a hidden frame instead.
// The plugin `offline` knows this file by its name; without it, it would fetch one from elsewhere.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.started = new Promise((resolve, reject) => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
          const script = inside.document.createElement("script")
          script.src = address
          script.onload = () => resolve(inside)
          script.onerror = () => reject(new Error(`${address} cannot be loaded`))
          inside.document.body.append(script)
        }, {once: true})
      })
      document.body.append(frame)
    }

    postMessage(data) {
      this.started.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", {data})))
    }
  }
}
