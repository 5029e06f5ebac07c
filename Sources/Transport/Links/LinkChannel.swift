import Primitives
import Synchronization

/// The encrypted connection of a link, with the bytes that wait to be written to it.
///
/// The loop reads and writes. Who sends while nothing else is under way writes from its own thread: that saves waking the loop's, which
/// costs more than all the rest of a single call.
final class LinkChannel: Sendable {
  private let state: Mutex<State>

  /// Unchecked because the session is reached through the lock alone once it is here.
  private struct State: @unchecked Sendable {
    var session: TLSSession?
    var pulse: LinkPulse
    var pending: [UInt8] = []
    var written = 0
    var window = BulkWindow()
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
  }

  /// What became of a flush.
  enum Flush: Equatable {
    case done
    /// The socket is full; its readiness will tell.
    case blocked
    /// As much was written as one turn may, and more waits.
    case unfinished
    case failed(String)
  }

  /// Takes over a session whose handshake is done; nobody else may use it from now on.
  init(_ session: TLSSession, at now: Instant) { state = Mutex(State(session: session, pulse: LinkPulse(at: now))) }

  // MARK: Reading, on the loop

  /// The result, and in words why there will be no further bytes.
  func read(into buffer: UnsafeMutableRawBufferPointer, at now: Instant) -> (result: IOResult, failure: String) {
    // The address goes through the lock as a number: spans of the caller's may not.
    let (address, count) = (UInt(bitPattern: buffer.baseAddress), buffer.count)
    return state.withLock { state in
      guard let session = state.session else { return (.endOfStream, "the link is closed") }
      let result = session.read(
        into: UnsafeMutableRawBufferPointer(start: UnsafeMutableRawPointer(bitPattern: address), count: count))
      if case .bytes(let count) = result {
        state.bytesReceived &+= UInt64(count)
        state.pulse.heard(at: now)
      }
      return (result, Self.words(result, session))
    }
  }

  private static func words(_ result: IOResult, _ session: TLSSession) -> String {
    switch result {
    case .bytes, .wouldBlock: ""
    case .endOfStream: "the peer closed the connection"
    case .failed(let code): session.failure?.description ?? SystemError.text(code)
    }
  }

  /// Takes the id of a pong; false when it answers no mark of a bulk transfer.
  func answered(_ id: UInt64) -> Bool { state.withLock { $0.window.answered(id) } }

  // MARK: Writing

  /// Queues a frame of the link's own ahead of everything not yet taken from an outbox.
  func append(_ frame: Frame) { state.withLock { frame.encode(into: &$0.pending) } }

  /// Writes what waits here and in the outbox. On the loop.
  func flush(_ outbox: Outbox?, at now: Instant) -> Flush { state.withLock { Self.flush(&$0, outbox, now) } }

  /// Writes what waits in the outbox, from any thread, unless others are at it or their bytes still wait.
  ///
  /// - Returns: false when the loop has to be woken: nothing was written, or not everything, or the connection failed.
  func flushNow(_ outbox: Outbox) -> Bool {
    let result = state.withLockIfAvailable { state in
      state.pending.isEmpty ? Self.flush(&state, outbox, EventLoop.monotonicNow()) : .unfinished
    }
    return result == .done
  }

  private static func flush(_ state: inout State, _ outbox: Outbox?, _ now: Instant) -> Flush {
    guard let session = state.session else { return .done }
    var total = 0
    while true {
      if state.written == state.pending.count {
        state.written = 0
        state.pending.removeAll(keepingCapacity: true)
        if let outbox { take(from: outbox, &state, now) }
        if state.pending.isEmpty { return .done }
      }
      // The peer may take bytes as fast as they come: others have their turn, too.
      guard total < LinkLimits.writeTurnBytes else { return .unfinished }
      switch state.pending[state.written...].withUnsafeBytes({ session.write($0) }) {
      case .bytes(let count):
        state.written += count
        state.bytesSent &+= UInt64(count)
        total += count
      case .wouldBlock: return .blocked
      case let result: return .failed(words(result, session))
      }
    }
  }

  private static func take(from outbox: Outbox, _ state: inout State, _ now: Instant) {
    let taken = outbox.take(into: &state.pending, bulkRoom: state.window.room)
    if taken.asksForAnswer { state.pulse.wrote(at: now) }
    if let mark = state.window.take(taken.bulkBytes) {
      Frame(kind: .ping, lane: .urgent, id: mark).encode(into: &state.pending)
    }
  }

  // MARK: The pulse, and numbers

  var pulse: LinkPulse { state.withLock { $0.pulse } }

  func asked(at now: Instant) { state.withLock { $0.pulse.asked(at: now) } }

  func decoded(completed: Bool, isOpen: Bool, at now: Instant) {
    state.withLock { $0.pulse.decoded(completed: completed, isOpen: isOpen, at: now) }
  }

  var bytesSent: UInt64 { state.withLock { $0.bytesSent } }
  var bytesReceived: UInt64 { state.withLock { $0.bytesReceived } }

  // MARK: The end

  /// Says that no more bytes come. False when the socket is full: try again when it is writable.
  func shutdown() -> Bool { state.withLock { $0.session?.shutdown() ?? true } }

  /// Ends the session, before its descriptor is closed.
  func close() { state.withLock { $0.session = nil } }
}
