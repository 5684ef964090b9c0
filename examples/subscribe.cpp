// A subscriber in C++, with libzmq3-dev, cppzmq-dev and nlohmann-json3-dev of Debian:
// g++ -std=c++17 examples/subscribe.cpp -lzmq -o subscribe && ./subscribe [ADDRESS]

#include <iostream>
#include <nlohmann/json.hpp>
#include <zmq.hpp>

int main(int argc, char** argv) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.connect(argc > 1 ? argv[1] : "tcp://127.0.0.1:5563");
  socket.set(zmq::sockopt::subscribe, "estimate/");  // or "" for everything
  while (true) {
    zmq::message_t topic, payload;
    if (!socket.recv(topic) || !socket.recv(payload)) continue;
    const auto estimate = nlohmann::json::parse(payload.to_string());
    const auto& verdict = estimate["label"].is_null() ? estimate["reason"] : estimate["label"];
    std::cout << topic.to_string() << " " << estimate["t"] << " " << verdict.get<std::string>() << " "
              << estimate["confidence"] << std::endl;
  }
}
