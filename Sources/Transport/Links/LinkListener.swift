import Primitives

/// Accepts connections for a network.
final class LinkListener: EventHandler {
  /// Carries the listening socket to the loop. Unchecked because whoever makes it only hands it over.
  final class Box: @unchecked Sendable {
    let listener: Listener
    init(_ listener: consuming Listener) { self.listener = listener }
  }

  private let loop: EventLoop
  private let box: Box
  private let accepted: (Int32, SocketAddress) -> Void
  private var registration: Registration?
  private static let pause: Duration = .milliseconds(100)

  init(_ box: Box, loop: EventLoop, accepted: @escaping (Int32, SocketAddress) -> Void) {
    self.box = box
    self.loop = loop
    self.accepted = accepted
  }

  func start() throws(SystemError) {
    registration = try loop.register(box.listener.descriptor, self)
  }

  func stop() {
    if let registration { loop.deregister(registration) }
    registration = nil
  }

  func ready(_ readiness: Readiness) {
    while registration != nil {
      switch box.listener.accept() {
      case .accepted(let socket, let peer): accepted(socket.release(), peer)
      case .wouldBlock: return
      case .exhausted: return retryLater()
      case .failed: return retryLater()
      }
    }
  }

  /// No edge comes for connections that already wait.
  private func retryLater() {
    loop.schedule(after: Self.pause) { [weak self] in self?.ready(.readable) }
  }
}
