import Primitives
import Synchronization

/// The clusters of a snapshot by index, each compiled when a request first needs it: most destinations of a large mesh are
/// never called from a node.
///
/// `table[index]` is what calls a cluster. Who goes over all of them only looks: what nobody has called is compiled for that
/// look and not kept. Copies share their parts, as those of `ChunkedArray`.
public struct ClusterTable: Sendable {
  @usableFromInline var cells = ChunkedArray<ClusterCell>()

  public init(_ clusters: some Sequence<Cluster>) { cells = ChunkedArray(clusters.map { ClusterCell($0) }) }

  /// An address, so that who reads a field counts no references to the others. It is good while the table is.
  public subscript(_ index: Int) -> Cluster {
    @inlinable @inline(__always) unsafeAddress { cells.borrowed(index)._withUnsafeGuaranteedRef { $0.made } }
  }

  /// The cluster if a request has needed it, or if it could not wait for one.
  public func ifInUse(_ index: Int) -> Cluster? { cells[index].isMade ? self[index] : nil }

  /// The cluster for who only looks.
  public func glimpse(_ index: Int) -> Cluster { cells[index].glimpse }

  /// The name of a cluster, called or not.
  public func name(_ index: Int) -> String { cells[index].name }

  /// The cluster of a name, where it stood before or elsewhere.
  public func index(named name: String, near index: Int) -> Int? {
    if index < cells.count, self.name(index) == name { return index }
    return cells.firstIndex { $0.name == name }
  }
}

/// Not a collection: what goes over all of a collection by index would call every cluster.
extension ClusterTable: Sequence {
  public var count: Int { cells.count }
  public var indices: Range<Int> { 0..<cells.count }
  public var underestimatedCount: Int { cells.count }

  public struct Iterator: IteratorProtocol {
    fileprivate var cells: IndexingIterator<ChunkedArray<ClusterCell>>
    public mutating func next() -> Cluster? { cells.next()?.glimpse }
  }
  public func makeIterator() -> Iterator { Iterator(cells: cells.makeIterator()) }
}

/// A cluster, or what it is compiled from when it is called.
@usableFromInline final class ClusterCell: Sendable {
  /// Where the cluster is; 0 until it is made, and never changed after that.
  @usableFromInline let place: Atomic<UInt>
  private let making = Mutex(())
  /// nil for a cluster that was given as it is.
  let recipe: ClusterRecipe?

  init(_ cluster: Cluster, recipe: ClusterRecipe? = nil) {
    self.recipe = recipe
    place = Atomic(UInt(bitPattern: Self.kept(cluster)))
  }

  /// - Parameter isInUse: it is called already, so that no request shall wait for it.
  init(_ recipe: ClusterRecipe, isInUse: Bool) {
    self.recipe = recipe
    place = Atomic(isInUse || recipe.cannotWait ? UInt(bitPattern: Self.kept(recipe.cluster())) : 0)
  }

  deinit {
    guard let cluster = known else { return }
    cluster.deinitialize(count: 1)
    cluster.deallocate()
  }

  private static func kept(_ cluster: Cluster) -> UnsafeMutablePointer<Cluster> {
    let place = UnsafeMutablePointer<Cluster>.allocate(capacity: 1)
    place.initialize(to: cluster)
    return place
  }

  private var known: UnsafeMutablePointer<Cluster>? { UnsafeMutablePointer(bitPattern: place.load(ordering: .acquiring)) }

  var isMade: Bool { known != nil }

  /// The cluster, which lives as long as this cell.
  @inlinable @inline(__always) var made: UnsafePointer<Cluster> {
    UnsafePointer(bitPattern: place.load(ordering: .acquiring)) ?? madeNow()
  }

  @usableFromInline @inline(never) func madeNow() -> UnsafePointer<Cluster> {
    let address = making.withLock { _ in
      if let known { return UInt(bitPattern: known) }
      let address = UInt(bitPattern: Self.kept(glimpse))
      place.store(address, ordering: .releasing)
      return address
    }
    guard let cluster = UnsafePointer<Cluster>(bitPattern: address) else { preconditionFailure("it was just made") }
    return cluster
  }

  /// The cluster for who only looks.
  var glimpse: Cluster {
    if let known { return known.pointee }
    guard let recipe else { preconditionFailure("a cluster is given, or it has a recipe") }
    return recipe.cluster()
  }

  var name: String { recipe?.name ?? glimpse.name }

  /// The same under another index of its service.
  func moved(to service: Int?) -> ClusterCell {
    guard let recipe = recipe?.moved(to: service) else { return self }
    guard isMade else { return ClusterCell(recipe, isInUse: false) }
    var cluster = made.pointee
    cluster.service = service
    return ClusterCell(cluster, recipe: recipe)
  }
}
