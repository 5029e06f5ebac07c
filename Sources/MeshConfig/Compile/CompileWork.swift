/// What one compilation took, in counts that do not depend on the machine.
public struct CompileWork: Sendable, Hashable {
  /// Destinations that are new or other than before. They are compiled when they are called.
  public var clustersBuilt = 0
  /// Those of them that were compiled at once, because the earlier ones are in use.
  public var clustersWarmed = 0
  /// Virtual hosts that are new or other than before, and those of them that were compiled at once.
  public var hostsCompiled = 0
  public var hostsWarmed = 0
  /// Questions of rules where a destination leads, answered from memory or anew.
  public var destinationsAsked = 0

  public init() {}

  init(_ pool: ClusterPool, _ routes: CompiledRoutes) {
    clustersBuilt = pool.built
    clustersWarmed = pool.warmed
    hostsCompiled = routes.hostsCompiled
    hostsWarmed = routes.hostsWarmed
    destinationsAsked = pool.destinationsAsked
  }

  func since(_ earlier: CompileWork) -> CompileWork {
    var work = CompileWork()
    work.clustersBuilt = clustersBuilt - earlier.clustersBuilt
    work.clustersWarmed = clustersWarmed - earlier.clustersWarmed
    // Counts of gateways that are gone went with them.
    work.hostsCompiled = max(0, hostsCompiled - earlier.hostsCompiled)
    work.hostsWarmed = max(0, hostsWarmed - earlier.hostsWarmed)
    work.destinationsAsked = destinationsAsked - earlier.destinationsAsked
    return work
  }
}
