import Primitives

/// Virtual hosts by port and host name: what one source workload, or one gateway port, can reach.
public struct RouteTable: Sendable {
  /// Sorted by port.
  public var ports: [PortTable]
  /// What happens to a host that no virtual host claims.
  public var fallback: Fallback

  public enum Fallback: Sendable, Hashable {
    /// Mesh, ALLOW_ANY: to the request's own destination; index of `PassthroughCluster`.
    case passthrough(ClusterIndex)
    /// Mesh, REGISTRY_ONLY: 502, `BlackHoleCluster`.
    case blackHole
    /// Gateway: 404 NR.
    case notFound
  }

  public struct PortTable: Sendable {
    public var port: UInt16
    public var virtualHosts: [VirtualHost]
    /// Exact host names (without port) → index into `virtualHosts`.
    public var exact: ByteTable<Int>
    /// Wildcard suffixes such as `.example.com`, longest first; the bare `*` has an empty suffix and comes last.
    public let wildcards: [(suffix: [UInt8], virtualHost: Int)]
    /// The same for looking up.
    public let suffixes: SuffixIndex

    public init(
      port: UInt16, virtualHosts: [VirtualHost], exact: ByteTable<Int>, wildcards: [(suffix: [UInt8], virtualHost: Int)]
    ) {
      self.port = port
      self.virtualHosts = virtualHosts
      self.exact = exact
      self.wildcards = wildcards
      suffixes = SuffixIndex(wildcards.map { (suffix: $0.suffix, value: $0.virtualHost) })
    }
  }

  public init(ports: [PortTable], fallback: Fallback) {
    self.ports = ports
    self.fallback = fallback
  }
}

public struct VirtualHost: Sendable {
  /// `reviews.default.svc.cluster.local:9080`, Istio's naming.
  public var name: String
  public var domains: [String]
  /// Its routes, compiled when a request first needs them: most hosts of a large mesh are never called from a node.
  public var content: CallByNeed<HostRoutes>

  public init(name: String, domains: [String], routes: [Route]) {
    self.init(name: name, domains: domains, content: CallByNeed(HostRoutes(routes)))
  }

  public init(name: String, domains: [String], content: CallByNeed<HostRoutes>) {
    self.name = name
    self.domains = domains
    self.content = content
  }

  /// What requests are routed by.
  @inlinable public var compiled: HostRoutes { content.value }
  /// For people: routes that no request has needed are compiled for this look only.
  public var routes: [Route] { content.glimpse.routes }
  /// Whether a request has needed the routes.
  public var isInUse: Bool { content.isMade }
}

/// The routes of a virtual host.
public final class HostRoutes: Sendable {
  /// First match wins.
  public let routes: [Route]
  /// Which routes a path can fulfil; nil where there are few.
  public let index: RouteIndex?

  public init(_ routes: [Route]) {
    self.routes = routes
    index = RouteIndex(routes)
  }
}
