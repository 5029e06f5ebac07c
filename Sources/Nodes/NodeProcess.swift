import Cluster
import FoundationEssentials
import Glibc
import Primitives
import Transport

/// How a node is started, beside what the cluster file says.
public struct StartOptions: Sendable {
  public var workers: Int
  /// How long running requests may go on once the node is told to stop; nil: as the mesh's configuration says.
  public var drain: Duration?
  /// nil: standard error.
  public var logFile: String?
  /// The join token of a node that no cluster file of the others names.
  public var token: JoinTokenText?
  public init(workers: Int, drain: Duration?, logFile: String?, token: JoinTokenText? = nil) {
    self.token = token
    self.workers = workers
    self.drain = drain
    self.logFile = logFile
  }
}

/// The life of a node process: start, serve until told to stop, leave in order.
public enum NodeProcess {
  /// Runs until SIGTERM, SIGINT or `mesh-node leave`. A second signal ends it at once.
  ///
  /// - Parameter pending: the signals that have arrived since it was last asked.
  public static func run(
    file: ClusterFile, node: ClusterFile.Node, options: StartOptions, pending: @escaping @Sendable () -> [Int32]
  ) async throws {
    Allocator.limitArenas(workers: options.workers)
    let log = try NodeLog(node: node.name.string, path: options.logFile)
    do {
      _ = try ProcessSettings.raiseDescriptorLimit()
      try ProcessSettings.protectMemory()
    } catch { log.warning("\(error)") }
    let runtime = try await NodeRuntime(file: file, node: node, options: options, log: log)
    try await runtime.start()
    while await !runtime.isAskedToLeave {
      if let signal = pending().first(where: isEnd) {
        log.info("stopping (\(signal == SIGINT ? "SIGINT" : "SIGTERM")); a second signal ends it at once")
        break
      }
      // Each look wakes several threads: of nothing that happens at rest there is more.
      try? await Task.sleep(for: .milliseconds(200))
    }
    let second = Task {
      while !Task.isCancelled {
        if pending().contains(where: isEnd) {
          log.warning("ended at once by a second signal")
          exit(1)
        }
        try? await Task.sleep(for: .milliseconds(50))
      }
    }
    await runtime.stop(drain: options.drain)
    second.cancel()
    log.info("stopped")
  }

  private static func isEnd(_ signal: Int32) -> Bool { signal == SIGTERM || signal == SIGINT }
}
