"""A subscriber in plain pyzmq: python examples/subscribe.py [ADDRESS]"""

import json
import sys

import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5563")
socket.subscribe("estimate/")  # or "" for everything
while True:
    topic, payload = socket.recv_multipart()
    estimate = json.loads(payload)
    print(topic.decode(), estimate["t"], estimate["label"] or estimate["reason"], estimate["confidence"], flush=True)
