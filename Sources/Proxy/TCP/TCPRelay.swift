import Glibc
import Primitives
import Transport

/// What a relay tells whoever owns it.
protocol TCPRelayObserver: AnyObject {
  /// Bytes moved.
  func relayMoved()
  /// Both directions have ended, or one end failed. Both ends are closed.
  func relayEnded(_ ending: TCPRelay.Ending)
}

/// Moves bytes between two ends in both directions, each at the pace of its receiver.
///
/// What is held is bounded: bytes that a receiver does not take at once, at most one buffer for each direction, and none
/// while a connection is idle. Nothing here depends on time: a byte that arrives leaves in the same turn.
final class TCPRelay: TCPEndObserver, TurnHandler {
  enum Ending: Equatable {
    case finished
    case clientFailed(Int32)
    case serverFailed(Int32)
  }

  /// One direction.
  private final class Flow {
    let source: any TCPEnd
    let sink: any TCPEnd
    var moved: UInt64 = 0
    /// Bytes the receiver has not taken.
    var held: [UInt8] = []
    var heldAt = 0
    var pipe: SplicePipe?
    /// Reads in a row that filled what was offered: a bulk transfer.
    var fullReads = 0
    var sourceEnded = false
    var isDone = false
    /// The kernel has refused to splice these two.
    var mustCopy = false

    init(from source: any TCPEnd, to sink: any TCPEnd) {
      self.source = source
      self.sink = sink
    }
  }

  private enum Progress: Equatable {
    case moved
    case waits
    case sourceFailed(Int32)
    case sinkFailed(Int32)
  }

  private let client: any TCPEnd
  private let server: any TCPEnd
  private let worker: Worker
  private weak var observer: (any TCPRelayObserver)?
  private let up: Flow
  private let down: Flow
  private var isPumping = false
  private var mustPumpAgain = false
  private var isOver = false

  var bytesFromClient: UInt64 { up.moved }
  var bytesFromServer: UInt64 { down.moved }

  init(client: any TCPEnd, server: any TCPEnd, worker: Worker, observer: any TCPRelayObserver) {
    self.client = client
    self.server = server
    self.worker = worker
    self.observer = observer
    up = Flow(from: client, to: server)
    down = Flow(from: server, to: client)
  }

  /// Begins. `preamble` goes to the server in front of the client's bytes, for example a PROXY header; `heard` and `answered`
  /// are what client and server have said already.
  func start(preamble: [UInt8] = [], heard: [UInt8] = [], answered: [UInt8] = []) {
    up.held = preamble + heard
    up.moved = UInt64(heard.count)
    down.held = client.greeting + answered
    down.moved = UInt64(answered.count)
    client.observer = self
    server.observer = self
    pump()
  }

  func endReady(_ end: any TCPEnd) { pump() }

  func turnEnded() { pump() }

  private func pump() {
    guard !isOver else { return }
    guard !isPumping else {
      mustPumpAgain = true
      return
    }
    isPumping = true
    let before = up.moved &+ down.moved
    var budget = ProxyLimits.relayBytesPerTurn
    repeat {
      mustPumpAgain = false
      pump(up, &budget)
      if !isOver { pump(down, &budget) }
    } while mustPumpAgain && !isOver && budget > 0
    isPumping = false
    guard !isOver else { return }
    client.flush()
    server.flush()
    if up.moved &+ down.moved != before { observer?.relayMoved() }
    if up.isDone && down.isDone { return end(.finished) }
    // Others get their turn; no edge will come for bytes that already wait.
    if budget <= 0 { worker.loop.atEndOfTurn(self) }
  }

  // MARK: One direction

  private func pump(_ flow: Flow, _ budget: inout Int) {
    while budget > 0, !flow.isDone {
      switch step(flow, &budget) {
      case .moved: continue
      case .waits: return
      case .sourceFailed(let code): return end(flow === up ? .clientFailed(code) : .serverFailed(code))
      case .sinkFailed(let code): return end(flow === up ? .serverFailed(code) : .clientFailed(code))
      }
    }
  }

  private func step(_ flow: Flow, _ budget: inout Int) -> Progress {
    if !flow.held.isEmpty { return drain(flow) }
    if flow.sourceEnded {
      guard flow.sink.endWriting() else { return .waits }
      flow.isDone = true
      return .moved
    }
    return maySplice(flow) ? splice(flow, &budget) : copy(flow, &budget)
  }

  /// Writes what is held until all of it is out.
  private func drain(_ flow: Flow) -> Progress {
    while flow.heldAt < flow.held.count {
      let result = flow.held.withUnsafeBytes { flow.sink.write(UnsafeRawBufferPointer(rebasing: $0[flow.heldAt...])) }
      switch result {
      case .bytes(let count): flow.heldAt += count
      case .wouldBlock: return .waits
      case .endOfStream: return .sinkFailed(EPIPE)
      case .failed(let code): return .sinkFailed(code)
      }
    }
    flow.held = []
    flow.heldAt = 0
    return .moved
  }

  /// Reads into the worker's scratch memory and writes from there; only what is not taken at once is kept.
  private func copy(_ flow: Flow, _ budget: inout Int) -> Progress {
    let scratch = worker.relayScratch
    var count = 0
    // TLS hands out a record at a time: several of them leave together.
    repeat {
      switch flow.source.read(into: UnsafeMutableRawBufferPointer(rebasing: scratch[count...])) {
      case .bytes(let read): count += read
      case .wouldBlock:
        if count == 0 { return .waits }
        return pass(flow, UnsafeRawBufferPointer(rebasing: scratch[..<count]), &budget)
      case .endOfStream:
        flow.sourceEnded = true
        return count == 0 ? .moved : pass(flow, UnsafeRawBufferPointer(rebasing: scratch[..<count]), &budget)
      case .failed(let code): return .sourceFailed(code)
      }
    } while count < scratch.count && flow.source.hasMore
    flow.fullReads = count == scratch.count ? flow.fullReads + 1 : 0
    return pass(flow, UnsafeRawBufferPointer(rebasing: scratch[..<count]), &budget)
  }

  private func pass(_ flow: Flow, _ bytes: UnsafeRawBufferPointer, _ budget: inout Int) -> Progress {
    flow.moved &+= UInt64(bytes.count)
    budget -= bytes.count
    var rest = bytes
    while !rest.isEmpty {
      switch flow.sink.write(rest) {
      case .bytes(let count): rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      case .wouldBlock:
        flow.held = Array(rest)
        return .waits
      case .endOfStream: return .sinkFailed(EPIPE)
      case .failed(let code): return .sinkFailed(code)
      }
    }
    return .moved
  }

  // MARK: Inside the kernel

  /// A bulk transfer between two plain sockets need not come up here.
  private func maySplice(_ flow: Flow) -> Bool {
    if flow.pipe != nil { return true }
    return !flow.mustCopy && flow.fullReads >= ProxyLimits.fullReadsBeforeSplice
      && flow.source.plainDescriptor != nil && flow.sink.plainDescriptor != nil
  }

  private func splice(_ flow: Flow, _ budget: inout Int) -> Progress {
    guard let from = flow.source.plainDescriptor, let to = flow.sink.plainDescriptor,
      let pipe = flow.pipe ?? worker.pipes.take()
    else {
      flow.mustCopy = true
      return .moved
    }
    flow.pipe = pipe
    if pipe.isEmpty, let stop = fill(pipe, flow, from: from, &budget) { return stop }
    while !pipe.isEmpty {
      switch pipe.drain(to: to) {
      case .bytes: continue
      case .wouldBlock: return .waits
      case .endOfStream: return .sinkFailed(EPIPE)
      case .failed(let code): return .sinkFailed(code)
      }
    }
    return .moved
  }

  /// Nil when bytes are in the pipe. Without any, the burst is over, and an idle connection holds no pipe.
  private func fill(_ pipe: SplicePipe, _ flow: Flow, from source: Int32, _ budget: inout Int) -> Progress? {
    let result = pipe.fill(from: source)
    if case .bytes(let count) = result {
      flow.moved &+= UInt64(count)
      budget -= count
      return nil
    }
    flow.pipe = nil
    flow.fullReads = 0
    worker.pipes.give(pipe)
    switch result {
    case .bytes, .wouldBlock: return .waits
    case .endOfStream: flow.sourceEnded = true
    case .failed(EINVAL), .failed(ENOSYS): flow.mustCopy = true
    case .failed(let code): return .sourceFailed(code)
    }
    return .moved
  }

  // MARK: The end

  private func end(_ ending: Ending) {
    guard !isOver else { return }
    stop(abortively: ending != .finished)
    observer?.relayEnded(ending)
  }

  /// Closes both ends at once; the observer is not told.
  func stop(abortively: Bool) {
    isOver = true
    client.close(abortively: abortively)
    server.close(abortively: abortively)
  }
}
