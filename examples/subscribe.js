// A subscriber in Node.js: npm install zeromq@6; node examples/subscribe.js [ADDRESS]

const zmq = require("zeromq")

async function run() {
  const socket = new zmq.Subscriber()
  socket.connect(process.argv[2] ?? "tcp://127.0.0.1:5563")
  socket.subscribe("estimate/") // or "" for everything
  for await (const [topic, payload] of socket) {
    const estimate = JSON.parse(payload.toString())
    console.log(topic.toString(), estimate.t, estimate.label ?? estimate.reason, estimate.confidence)
  }
}

run()
