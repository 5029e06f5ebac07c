import Membership
import Primitives

/// What members send each other in the simulation.
public enum MembershipPacket: Sendable {
  case swim(SWIMMessage)
  case registry(RegistryMessage)
}

/// A whole cluster of SWIM and registry cores under one seed.
public struct MembershipCluster {
  public struct Node {
    public let name: NodeName
    public let address: NodeAddress
    public var swim: SWIM
    public var registry: Registry
    /// Steps this node saw, with their time.
    public var history: [(at: Instant, change: MemberChange)] = []
    public var claimsRejected: [SWIM.ClaimRejection] = []
    public var rowsRejected: [RowRejection] = []
    public var hasLeft = false
    public var starts: UInt64 = 1
    var arePeersStale = false
  }

  public let seed: UInt64
  public var network: SimulatedNetwork<MembershipPacket>
  public private(set) var nodes: [Node] = []
  /// Each conviction of a node that was up, not paused and not cut off when it was made.
  public private(set) var falseConvictions: [(at: Instant, by: NodeName, of: NodeName)] = []
  /// Largest datagram body seen.
  public private(set) var largestDatagramBytes = 0
  private let configuration: SWIMConfiguration
  private var indexByName: [NodeName: Int] = [:]
  private var indexByAddress: [NodeAddress: Int] = [:]
  private var isCut = false
  private var messagesSinceCheck = 0
  /// Counts bytes and watches for news; steps are then not kept for each node.
  var meter: ScaleMeter?
  /// False where membership alone is looked at.
  let hasRegistry: Bool

  /// - Parameter knowing: for a measured run: so many of the first nodes know each other from the start. Nobody joins by itself.
  public init(
    size: Int, seed: UInt64, conditions: NetworkConditions = NetworkConditions(),
    configuration: SWIMConfiguration = SWIMConfiguration(), knowing: Int? = nil, hasRegistry: Bool = true
  ) throws {
    meter = knowing.map { _ in ScaleMeter(nodes: size) }
    self.hasRegistry = hasRegistry
    self.seed = seed
    self.configuration = configuration
    network = SimulatedNetwork(nodes: size, conditions: conditions, seed: seed)
    for index in 0..<size {
      let name = try NodeName("n\(index)")
      let address = NodeAddress(host: "10.0.\(index / 250).\(index % 250 + 1)", port: 15010)
      indexByName[name] = index
      indexByAddress[address] = index
      nodes.append(Self.start(name, address, incarnation: 1_700_000_000_000, seed: seed &+ UInt64(index), configuration, .zero))
    }
    guard let knowing else {
      for index in 0..<size { begin(index) }
      return
    }
    // One record for all tables, as they would not be on hosts of their own.
    let known = nodes.prefix(knowing).map(\.swim.local).sorted { $0.name < $1.name }
    for index in 0..<min(knowing, size) {
      nodes[index].swim = SWIM(
        local: nodes[index].swim.local, knowing: known, configuration: configuration, seed: seed &+ UInt64(index), at: .zero)
      nodes[index].arePeersStale = true
    }
  }

  private static func start(
    _ name: NodeName, _ address: NodeAddress, incarnation: UInt64, seed: UInt64, _ configuration: SWIMConfiguration,
    _ now: Instant
  ) -> Node {
    let record = MemberRecord(name: name, address: address, incarnation: incarnation, locality: "local/a/1")
    return Node(
      name: name, address: address, swim: SWIM(local: record, configuration: configuration, seed: seed, at: now),
      registry: Registry(owner: name, incarnation: incarnation, seed: seed &* 31, at: now))
  }

  /// All nodes know the first three as seeds.
  mutating func begin(_ index: Int) {
    let seeds = nodes.prefix(3).map { Seed(name: $0.name, address: $0.address) }
    feed(index, .join(seeds))
    if hasRegistry { publishNode(index) }
  }

  public var now: Instant { network.now }
  public var upIndices: [Int] { nodes.indices.filter { network.isUp($0) && !nodes[$0].hasLeft } }

  // MARK: Running

  public mutating func run(for time: Duration) {
    let end = network.now + time
    while let event = network.next(until: end) { deliver(event) }
  }

  /// Runs until the condition holds and returns how long it took, or nil when it did not within the time.
  public mutating func run(within time: Duration, until condition: (MembershipCluster) -> Bool) -> Duration? {
    let start = network.now
    let end = start + time
    while network.now < end {
      if condition(self) { return network.now - start }
      run(for: .milliseconds(10))
    }
    return condition(self) ? network.now - start : nil
  }

  private mutating func deliver(_ event: SimulatedNetwork<MembershipPacket>.Event) {
    switch event {
    case .datagram(.swim(let message), let from, let to): feed(to, .datagram(message, from: nodes[from].address))
    case .stream(.swim(let message), let from, let to): feed(to, .stream(message, from: nodes[from].name))
    case .stream(.registry(let message), let from, let to): receive(message, from: from, to: to)
    case .datagram(.registry, _, _), .resumed: break
    case .unreachable(let peer, let from): feed(from, .linkDown(nodes[peer].name, .refused))
    case .timer(let index): timerFired(index)
    }
  }

  private mutating func timerFired(_ index: Int) {
    guard !nodes[index].hasLeft else { return }
    if let due = nodes[index].swim.nextDeadline, due <= now { feed(index, .tick) }
    if hasRegistry, nodes[index].registry.nextDeadline <= now {
      tellPeers(index)
      var effects: [Registry.Effect] = []
      nodes[index].registry.tick(at: now, into: &effects)
      carryOut(effects, of: index)
    }
    rearm(index)
  }

  private mutating func rearm(_ index: Int) {
    let registry = hasRegistry ? nodes[index].registry.nextDeadline : .distantFuture
    network.arm(index, at: nodes[index].swim.nextDeadline.map { min($0, registry) })
  }

  /// Hands one input to a node's membership and carries out the effects.
  public mutating func feed(_ index: Int, _ input: SWIM.Input) {
    guard network.isUp(index), !nodes[index].hasLeft else { return }
    var effects: [SWIM.Effect] = []
    nodes[index].swim.handle(input, at: now, into: &effects)
    for effect in effects { carryOut(effect, of: index) }
    if effects.contains(where: { if case .memberChanged = $0 { true } else { false } }) {
      nodes[index].arePeersStale = true
      if meter == nil { tellPeers(index) }
    }
    rearm(index)
  }

  /// Tells the registry who lives; where many nodes come at once, only before it matters.
  mutating func tellPeers(_ index: Int) {
    guard hasRegistry, nodes[index].arePeersStale else { return }
    nodes[index].arePeersStale = false
    let live = nodes[index].swim.members.filter(\.state.isLive).map(\.name)
    nodes[index].registry.peersChanged(live, at: now)
  }

  private mutating func carryOut(_ effect: SWIM.Effect, of index: Int) {
    switch effect {
    case .sendDatagram(let message, let address):
      check(message)
      meter?.sent(message.encoded().count, by: index, isDatagram: true)
      if let to = indexByAddress[address] {
        network.sendDatagram(.swim(message), from: index, to: to)
      }
    case .sendStream(let message, let name, _):
      meter?.sent(message.encoded().count, by: index, isDatagram: false)
      if let to = indexByName[name] { network.sendStream(.swim(message), from: index, to: to) }
    case .memberChanged(let change):
      let now = now
      if meter == nil { nodes[index].history.append((now, change)) }
      meter?.saw(change, by: index, at: now)
      judge(change, by: index)
    case .registryDiffers(let name, let digest):
      tellPeers(index)
      var effects: [Registry.Effect] = []
      nodes[index].registry.heard(digest: digest, from: name, at: now, into: &effects)
      carryOut(effects, of: index)
    case .claimRejected(let rejection): nodes[index].claimsRejected.append(rejection)
    case .leaveCompleted: nodes[index].hasLeft = true
    case .incarnationRaised: break
    }
  }

  /// Every sixteenth message goes through the codec.
  private mutating func check(_ message: SWIMMessage) {
    messagesSinceCheck += 1
    guard messagesSinceCheck % 16 == 0 else { return }
    let bytes = message.encoded()
    largestDatagramBytes = max(largestDatagramBytes, bytes.count)
    precondition((try? SWIMMessage(decoding: bytes)) == message, "a message must survive its encoding")
  }

  private mutating func judge(_ change: MemberChange, by index: Int) {
    guard let new = change.new, new.state == .dead, change.old != nil, let accused = indexByName[new.name] else { return }
    guard network.isUp(accused), !network.isPaused(accused), !nodes[accused].hasLeft, !isCut else { return }
    falseConvictions.append((now, nodes[index].name, new.name))
  }

  mutating func withRegistry(_ index: Int, _ body: (inout Registry) throws -> Void) rethrows {
    try body(&nodes[index].registry)
  }

  mutating func sendRegistry(_ message: RegistryMessage, from: Int, to name: NodeName) {
    meter?.sent(message.encoded().count, by: from, isDatagram: false)
    if let to = indexByName[name] { network.sendStream(.registry(message), from: from, to: to) }
  }

  mutating func noteRejection(_ rejection: RowRejection, by index: Int) { nodes[index].rowsRejected.append(rejection) }

  // MARK: Faults

  /// Ends a process; its host resets its links unless the whole host is gone.
  public mutating func kill(_ index: Int, resetsLinks: Bool) {
    network.takeDown(index)
    guard resetsLinks else { return }
    for peer in nodes.indices where peer != index { feed(peer, .linkDown(nodes[index].name, .reset)) }
  }

  /// Starts a process again with a higher incarnation and nothing remembered.
  public mutating func restart(_ index: Int) {
    network.takeDown(index)
    network.bringUp(index)
    let old = nodes[index]
    let incarnation = 1_700_000_000_000 + now.nanoseconds / 1_000_000
    nodes[index] = Self.start(
      old.name, old.address, incarnation: incarnation, seed: seed &+ UInt64(index) &+ 1000 &* old.starts, configuration, now)
    nodes[index].starts = old.starts + 1
    begin(index)
  }

  public mutating func partition(_ groups: [[Int]]) {
    isCut = true
    network.partition(groups)
  }

  public mutating func cut(from: Int, to: Int) {
    isCut = true
    network.cut(from: from, to: to)
  }

  public mutating func heal() {
    isCut = false
    network.heal()
  }
}
