import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Synchronization
import Transport

/// Asks servers outside the mesh for documents by GET over HTTPS: SPIFFE bundles, and whatever else a node fetches itself.
///
/// A server has to prove the URL's host with a certificate of a trusted authority, by TLS 1.2 or later. Each question has a
/// connection of its own: they are minutes apart.
public struct HTTPSFetch: Sendable {
  /// Finds the addresses of a name, in the order to try them; the answer may come on any thread, late or never.
  public typealias LookUp = @Sendable (_ name: String, _ answer: @escaping @Sendable ([IPAddress]) -> Void) -> Void

  private let loop: EventLoop
  private let lookUp: LookUp
  private let trust: TLSTrust

  /// - Parameter trust: whom servers are believed to be signed by.
  public init(loop: EventLoop, trust: TLSTrust = .system, lookUp: @escaping LookUp) {
    self.loop = loop
    self.trust = trust
    self.lookUp = lookUp
  }

  /// The body of the answer, which has to be 200. Redirects to https are followed (SPIFFE Federation 5.2.1.4).
  ///
  /// - Parameters:
  ///   - bytesMax: of the body.
  ///   - limit: for everything.
  public func get(
    _ url: HTTPSURL, bytesMax: Int, within limit: Duration = FetchLimits.time
  ) async throws(FetchError) -> [UInt8] {
    let deadline = EventLoop.monotonicNow() + limit
    var place = url
    for _ in 0...FetchLimits.redirectsMax {
      let answer = try await ask(place, bytesMax: bytesMax, until: deadline, limit: limit)
      switch answer.status {
      case 200: return answer.body
      case 301, 302, 303, 307, 308:
        guard let location = answer.header("location") else {
          throw FetchError("\(place.authority) answered with \(answer.status) without saying where to")
        }
        do throws(NameError) { place = try place.redirected(to: location) } catch {
          throw FetchError("\(place.authority) redirects to what is not followed: \(error)")
        }
      default: throw FetchError("\(place.authority) answered with \(answer.status)")
      }
    }
    throw FetchError("more than \(FetchLimits.redirectsMax) redirects, the last to \(place.authority)")
  }

  private func ask(
    _ url: HTTPSURL, bytesMax: Int, until deadline: Instant, limit: Duration
  ) async throws(FetchError) -> HTTPResponse {
    let context: TLSContext
    do throws(TLSError) {
      // Made anew each time: it holds all of the system's authorities, and these may have changed.
      context = try .client(identity: nil, trust: trust, protocols: ["http/1.1"], minimum: .tls12)
    } catch { throw FetchError(error.description) }
    let outcome = FetchOutcome()
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        outcome.wait(with: continuation)
        loop.post {
          let attempt = HTTPSAttempt(
            loop: loop, url: url, context: context, bytesMax: bytesMax, deadline: deadline, outcome: outcome)
          attempt.start(lookUp, limit: limit)
        }
      }
    } onCancel: {
      outcome.settle(.failure(FetchError("given up")))
    }
    return try result.get()
  }
}

/// Why something was not fetched.
public struct FetchError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = String(description.prefix(FetchLimits.reasonBytesMax)) }
}

/// What one question comes to: the first word holds, whoever says it.
private final class FetchOutcome: Sendable {
  private enum State {
    case open(CheckedContinuation<Result<HTTPResponse, FetchError>, Never>?)
    case settled(Result<HTTPResponse, FetchError>)
  }
  private let state = Mutex(State.open(nil))

  func wait(with continuation: CheckedContinuation<Result<HTTPResponse, FetchError>, Never>) {
    let early = state.withLock { state -> Result<HTTPResponse, FetchError>? in
      if case .settled(let result) = state { return result }
      state = .open(continuation)
      return nil
    }
    if let early { continuation.resume(returning: early) }
  }

  func settle(_ result: Result<HTTPResponse, FetchError>) {
    let waiting = state.withLock { state -> CheckedContinuation<Result<HTTPResponse, FetchError>, Never>? in
      guard case .open(let continuation) = state else { return nil }
      state = .settled(result)
      return continuation
    }
    waiting?.resume(returning: result)
  }

  var isSettled: Bool { state.withLock { if case .settled = $0 { true } else { false } } }
}

/// One question to one server, on an event loop: its addresses in turn until one takes the connection, then TLS, request, answer.
private final class HTTPSAttempt: EventHandler {
  private let loop: EventLoop
  private let url: HTTPSURL
  private let context: TLSContext
  private let deadline: Instant
  private let outcome: FetchOutcome
  private var reader: ResponseReader
  private var allowance: Int
  private let request: [UInt8]

  private var addresses: ArraySlice<IPAddress> = []
  private var connection: Connection?
  private var timer: TimerToken?
  private var connectTimer: TimerToken?
  private var written = 0

  private final class Connection {
    let address: SocketAddress
    let socket: Socket
    var registration: Registration?
    /// nil: not connected yet.
    var session: TLSSession?
    var isEstablished = false

    init(_ address: SocketAddress, _ socket: consuming Socket) {
      self.address = address
      self.socket = socket
    }
  }

  init(loop: EventLoop, url: HTTPSURL, context: TLSContext, bytesMax: Int, deadline: Instant, outcome: FetchOutcome) {
    self.loop = loop
    self.url = url
    self.context = context
    self.deadline = deadline
    self.outcome = outcome
    reader = ResponseReader(bodyBytesMax: bytesMax)
    allowance = bytesMax + FetchLimits.overheadBytesMax
    let parts = url.target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var request = HTTPRequest(
      "GET", String(parts.first ?? "/"), query: parts.count > 1 ? String(parts[1]) : nil, authority: url.authority,
      headers: [HTTPField("accept", "application/json"), HTTPField("user-agent", "mesh-node")])
    request.keepsAlive = false
    self.request = request.serialized() ?? []
  }

  func start(_ lookUp: HTTPSFetch.LookUp, limit: Duration) {
    guard !request.isEmpty else { return fail("cannot be asked for") }
    // The closure keeps the attempt alive until it has settled.
    timer = loop.schedule(after: deadline - loop.now) { self.fail("no answer within \(limit)") }
    let held = LoopBound(self, on: loop)
    let take: @Sendable ([IPAddress]) -> Void = { [loop] found in loop.post { held.value.take(found) } }
    if let address = IPAddress(url.host) { take([address]) } else { lookUp(url.host, take) }
  }

  private func take(_ found: [IPAddress]) {
    guard !isOver else { return }
    guard !found.isEmpty else { return fail("the name has no address, or no name server answers") }
    addresses = found[...]
    connectNext("")
  }

  /// Whether nobody waits any more.
  private var isOver: Bool {
    if outcome.isSettled { release() }
    return outcome.isSettled
  }

  // MARK: Connecting

  /// - Parameter failure: of the address before; what is told when there is no other.
  private func connectNext(_ failure: String) {
    end()
    guard let address = addresses.popFirst() else { return fail(failure) }
    let place = SocketAddress.ip(address, port: url.port)
    do throws(SystemError) {
      let connection = Connection(place, try Socket.connect(to: place))
      self.connection = connection
      connection.registration = try loop.register(connection.socket.descriptor, self)
    } catch { return connectNext(error.description) }
    guard !addresses.isEmpty else { return }
    // One that does not answer must not take the time of all (as Go's dialer shares it out).
    let share = (deadline - loop.now) / (addresses.count + 1)
    connectTimer = loop.schedule(after: share) { self.connectNext("connect to \(place): no answer") }
  }

  func ready(_ readiness: Readiness) {
    guard !isOver, let connection else { return }
    if connection.session == nil {
      guard readiness.contains(.writable) || readiness.contains(.error) else { return }
      let code = connection.socket.pendingError
      guard code == 0 else {
        return connectNext(SystemError("connect to \(connection.address)", code: code).description)
      }
      if let connectTimer { loop.cancel(connectTimer) }
      connectTimer = nil
      do throws(TLSError) {
        connection.session = try TLSSession(
          context, descriptor: connection.socket.descriptor, serverName: url.host, expecting: .names([url.host]))
      } catch { return fail(error.description) }
    }
    guard let session = connection.session else { return }
    if !connection.isEstablished {
      switch session.handshake() {
      case .done: connection.isEstablished = true
      case .wantRead, .wantWrite: return
      case .failed(let error): return fail(error.description)
      }
    }
    write(session)
    read(session)
  }

  // MARK: Request and answer

  private func write(_ session: TLSSession) {
    while written < request.count {
      switch request.withUnsafeBytes({ session.write(UnsafeRawBufferPointer(rebasing: $0[written...])) }) {
      case .bytes(let count): written += count
      case .wouldBlock: return
      case .endOfStream, .failed: return fail(session.failure?.description ?? "the connection broke")
      }
    }
  }

  private func read(_ session: TLSSession) {
    var chunk = [UInt8](repeating: 0, count: FetchLimits.readBytes)
    while connection != nil {
      let result = chunk.withUnsafeMutableBytes { session.read(into: $0) }
      do throws(MessageError) {
        switch result {
        case .wouldBlock: return
        case .bytes(let count):
          allowance -= count
          guard allowance >= 0 else { return fail("the answer is too large") }
          reader.receive(chunk[..<count])
          if let answer = try reader.next() { settle(.success(answer)) }
        case .endOfStream:
          guard let answer = try reader.finish() else { return fail("the connection ended without an answer") }
          settle(.success(answer))
        case .failed: return fail(session.failure?.description ?? "the connection broke")
        }
      } catch { return fail("not an acceptable answer: \(error)") }
    }
  }

  // MARK: End

  private func fail(_ reason: String) {
    let place = url.isAddress ? "" : connection.map { " at \($0.address)" } ?? ""
    settle(.failure(FetchError("\(url.authority)\(place): \(reason)")))
  }

  private func settle(_ result: Result<HTTPResponse, FetchError>) {
    release()
    outcome.settle(result)
  }

  /// Lets go of everything that keeps this alive.
  private func release() {
    end()
    if let timer { loop.cancel(timer) }
    timer = nil
  }

  /// Ends the connection there is.
  private func end() {
    if let connectTimer { loop.cancel(connectTimer) }
    connectTimer = nil
    guard let connection else { return }
    if let registration = connection.registration { loop.deregister(registration) }
    connection.session?.shutdown()
    self.connection = nil
  }
}
