import HTTPCodec
import MeshConfig
import Primitives
import Synchronization
import Telemetry
import Transport

/// The data plane as the control side sees it: workers, and the state they serve.
///
/// Safe to use from any task. `publish` calls must not overlap; whoever owns the runtime orders them.
public final class ProxyRuntime: Sendable {
  private let workers: [LoopBound<Worker>]
  private let resolver: Resolver
  private let names: NameWatch
  private let overload: OverloadGuard
  private let book = Mutex(Book())

  private struct Book {
    var open: [ProxyListener: SocketAddress] = [:]
    var generation: UInt64 = 0
    var serving: ServingState?
  }

  /// Starts so many worker threads, serving `state` but for its listeners, which `publish` opens.
  public init(workers count: Int, serving state: ProxyState, seed: UInt64 = UInt64.random(in: .min ... .max))
    throws(SystemError)
  {
    ProcessSettings.ignoreBrokenPipe()
    resolver = try Resolver(servers: state.options.nameServers)
    names = NameWatch(resolver)
    overload = OverloadGuard(state.options.overload)
    let first = ServingState(state, generation: 0)
    book.withLock { $0.serving = first }
    var workers: [LoopBound<Worker>] = []
    for index in 0..<max(1, count) {
      let loop = try EventLoop(name: "mesh-worker-\(index)")
      let worker = Worker(
        loop: loop, index: index, state: first, resolver: resolver, overload: overload, seed: seed &+ UInt64(index))
      let bound = LoopBound(worker, on: loop)
      try loop.start()
      loop.post {
        bound.value.install(first)
        if index == 0 { bound.value.watchMemory() }
      }
      workers.append(bound)
    }
    self.workers = workers
    let all = workers
    for worker in workers { worker.loop.post { worker.value.meet(all) } }
  }

  /// Makes every worker serve `state`: opens new listeners, closes those that are gone, swaps the snapshot.
  ///
  /// Returns when all workers serve it. A listener that cannot be opened is reported and does not stop the rest. Requests
  /// under way finish on the state they began with.
  public func publish(_ state: ProxyState) async -> PublishResult {
    let (serving, known) = book.withLock { book in
      book.generation += 1
      let serving = ServingState(state, generation: book.generation, after: book.serving)
      book.serving = serving
      return (serving, book.open)
    }
    let wanted = Set(state.listeners)
    let gone = known.keys.filter { !wanted.contains($0) }
    overload.use(state.options.overload)
    resolver.refresh(every: state.snapshot.settings.dnsRefreshRate)
    // The snapshot first: a new listener never meets a state that does not know it.
    await onEachWorker { worker in
      worker.install(serving)
      for listener in gone { worker.close(listener) }
    }
    book.withLock { book in for listener in gone { book.open[listener] = nil } }
    var statuses: [ListenerStatus] = []
    for listener in state.listeners {
      if let address = known[listener] {
        statuses.append(ListenerStatus(listener: listener, address: address))
      } else {
        statuses.append(await open(listener))
      }
    }
    return PublishResult(
      revision: state.snapshot.revision, registryVersion: state.snapshot.registryVersion, listeners: statuses)
  }

  /// Binds one socket a worker, all to the port that the first one got; a Unix socket on the first worker alone.
  private func open(_ listener: ProxyListener) async -> ListenerStatus {
    var address = listener.address
    let isUnix = listener.address.ip == nil
    let balance = AcceptBalance(workers: isUnix ? 1 : workers.count)
    for worker in workers.prefix(isUnix ? 1 : workers.count) {
      let wanted = address
      let result = await Self.on(worker) { worker in
        Result { () throws(SystemError) in try worker.open(listener, at: wanted, balance: balance) }
      }
      switch result {
      case .success(let bound): address = bound
      case .failure(let error):
        await onEachWorker { $0.close(listener) }
        return ListenerStatus(listener: listener, error: error)
      }
    }
    let bound = address
    book.withLock { $0.open[listener] = bound }
    return ListenerStatus(listener: listener, address: bound)
  }

  /// Stops accepting and lets requests finish, at most until `deadline` has passed. True when all did.
  public func drain(within deadline: Duration) async -> Bool {
    book.withLock { $0.open = [:] }
    await onEachWorker { $0.drain() }
    let end = EventLoop.monotonicNow() + deadline
    while EventLoop.monotonicNow() < end {
      if await openConnections() == 0 { return true }
      try? await Task.sleep(for: .milliseconds(20))
    }
    return await openConnections() == 0
  }

  /// Ends all connections and threads.
  public func stop() async {
    await onEachWorker { $0.shutDown() }
    for worker in workers { worker.loop.stop() }
    resolver.stop()
  }

  // MARK: Names outside the mesh

  /// Keeps the addresses of these names known, and of no others. `changed` is called, on any thread, when one has others.
  public func watch(names wanted: [String], changed: @escaping @Sendable () -> Void) { names.watch(wanted, changed: changed) }

  /// The addresses of watched names, as far as they are known. Where a name has some of the family of `own`, only those: the
  /// others may not be reachable from here.
  public func addresses(ofNamesSeenFrom own: IPAddress?) -> [String: [String]] {
    names.addresses.mapValues { found in
      let fitting = found.filter { $0.isV6 == (own?.isV6 ?? false) }
      return (fitting.isEmpty ? found : fitting).map(\.description)
    }
  }

  /// Finds the addresses of a name outside the mesh, in the order to try them; none when it cannot be resolved. `answer` is called
  /// on any thread, never once the runtime has stopped.
  public func lookUp(_ name: String, _ answer: @escaping @Sendable ([IPAddress]) -> Void) {
    if let known = resolver.addresses(of: name, now: EventLoop.monotonicNow(), answer: answer) { answer(known) }
  }

  /// Requests that a local workload, by `WorkloadFacts.key`, has not answered yet, and opaque connections that it has.
  public func requestsUnderWay(to workload: String) -> Int {
    guard let serving = book.withLock({ $0.serving }), let index = serving.localWorkload(key: workload) else { return 0 }
    return serving.activity[index].count
  }

  public func openConnections() async -> Int {
    await collect { $0.openConnections }.reduce(0, +)
  }

  /// Counts since the start, and the metrics of all workers added up.
  public func statistics() async -> ProxyStatistics {
    let parts = await collect { ($0.counters, $0.openConnections, $0.telemetry.metrics.snapshot) }
    var statistics = ProxyStatistics()
    for (counters, connections, _) in parts {
      statistics.counters.add(counters)
      statistics.connectionsByWorker.append(connections)
    }
    statistics.metrics = MetricFamily.merged(parts.map(\.2))
    return statistics
  }

  // MARK: Workers

  private func onEachWorker(_ body: @escaping @Sendable (Worker) -> Void) async {
    _ = await collect { body($0) }
  }

  /// What each worker answers, all asked at the same time.
  private func collect<Result: Sendable>(_ body: @escaping @Sendable (Worker) -> Result) async -> [Result] {
    await withCheckedContinuation { continuation in
      let answers = WorkerAnswers(of: workers.count, for: continuation)
      for (index, worker) in workers.enumerated() {
        worker.loop.post { answers.add(body(worker.value), of: index) }
      }
    }
  }

  private static func on<Result: Sendable>(
    _ worker: LoopBound<Worker>, _ body: @escaping @Sendable (Worker) -> Result
  ) async -> Result {
    await withCheckedContinuation { continuation in
      worker.loop.post { continuation.resume(returning: body(worker.value)) }
    }
  }
}

/// Answers of all workers, handed on with the last of them.
private final class WorkerAnswers<Answer: Sendable>: Sendable {
  private let answers: Mutex<[Answer?]>
  private let continuation: CheckedContinuation<[Answer], Never>

  /// There is at least one worker.
  init(of count: Int, for continuation: CheckedContinuation<[Answer], Never>) {
    answers = Mutex(Array(repeating: nil, count: count))
    self.continuation = continuation
  }

  func add(_ answer: Answer, of worker: Int) {
    let all = answers.withLock { answers -> [Answer]? in
      answers[worker] = answer
      let known = answers.compactMap { $0 }
      return known.count == answers.count ? known : nil
    }
    if let all { continuation.resume(returning: all) }
  }
}

/// What the data plane counted.
public struct ProxyStatistics: Sendable {
  public var counters = ProxyCounters()
  /// Client connections open now.
  public var openConnections: Int { connectionsByWorker.reduce(0, +) }
  public var connectionsByWorker: [Int] = []
  /// Istio's standard metrics of all workers, ready for `Exposition`.
  public var metrics: [MetricFamily] = []
}
