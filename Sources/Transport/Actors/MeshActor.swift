import Distributed
import Primitives

/// One distributed function or property that other nodes may call.
public struct MeshTarget: Sendable {
  /// What the wire and the arguments have to agree with.
  public struct Signature: Hashable, Sendable {
    /// The identifier the compiler gives the target: its mangled name, so a changed signature is another target.
    public let identifier: String
    public let arguments: Int
  }

  public enum Order: Hashable, Sendable {
    /// Started after the calls before it have finished: one at a time per actor.
    case serial
    /// Started in order, but the next call does not wait for it. For calls that wait long.
    case concurrent
    /// Serial, and begun on the thread that carries the links, between two frames, when nothing waits before it. For what
    /// takes microseconds and never blocks: meanwhile nothing else arrives, not even a heartbeat. Not cancelled once begun.
    case brief
  }

  /// Decodes the arguments, runs the target on an actor of its type, and encodes the body of the reply.
  typealias Run = @Sendable (any MeshActor, inout MeshInvocationDecoder) async throws -> [UInt8]

  public let signature: Signature
  public let order: Order
  /// Nil where the runtime has to find the code by the identifier.
  let run: Run?

  /// A target that the runtime finds by its identifier: slower by some microseconds a call.
  public init(_ identifier: String, arguments: Int, order: Order = .serial) {
    signature = Signature(identifier: identifier, arguments: arguments)
    self.order = order
    run = nil
  }

  /// A target with its code, `{ (library: Library, book: Book) in try await library.echo(book) }`, which the compiler checks.
  public init<Act: MeshActor, each Argument: Codable & Sendable, Result: Codable & Sendable>(
    _ identifier: String, order: Order = .serial,
    call: @escaping @Sendable (Act, repeat each Argument) async throws -> Result
  ) {
    self.init(identifier, arguments: Self.count(repeat (each Argument).self), order: order) { actor, decoder in
      let actor = try Self.cast(actor, to: Act.self)
      let arguments = (repeat try decoder.decodeNextArgument() as each Argument)
      return MeshResultHandler.body(of: try await call(actor, repeat each arguments))
    }
  }

  /// The same without a result.
  public init<Act: MeshActor, each Argument: Codable & Sendable>(
    _ identifier: String, order: Order = .serial, call: @escaping @Sendable (Act, repeat each Argument) async throws -> Void
  ) {
    self.init(identifier, arguments: Self.count(repeat (each Argument).self), order: order) { actor, decoder in
      let actor = try Self.cast(actor, to: Act.self)
      let arguments = (repeat try decoder.decodeNextArgument() as each Argument)
      try await call(actor, repeat each arguments)
      return [ReplyStatus.void.rawValue]
    }
  }

  private init(_ identifier: String, arguments: Int, order: Order, run: @escaping Run) {
    signature = Signature(identifier: identifier, arguments: arguments)
    self.order = order
    self.run = run
  }

  private static func cast<Act: MeshActor>(_ actor: any MeshActor, to type: Act.Type) throws(MeshError) -> Act {
    guard let actor = actor as? Act else { throw MeshError(.internal, "the target is one of \(type)") }
    return actor
  }

  private static func count<each Argument>(_ types: repeat (each Argument).Type) -> Int {
    var count = 0
    for _ in repeat each types { count += 1 }
    return count
  }
}

/// A distributed actor that other nodes may call.
///
/// The runtime finds a target's code by its name alone and would run another type's method on this actor's memory, so a
/// call runs only when its target is in the list of the recipient's own type. The list is checked in; a test compares it
/// with `recordTargets`, so a rename shows as a reviewed difference.
public protocol MeshActor: DistributedActor where ActorSystem == SocketActorSystem {
  /// The well-known name under which the actor is found on its node; one of each type lives on a node.
  static var name: String { get }
  static var targets: [MeshTarget] { get }
  /// Whether a node, as its certificate names it, may call the target. Asked before any argument is decoded.
  static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool
}

extension MeshActor {
  /// The actor of this type on a node: the actor itself when it lives here, otherwise a proxy.
  ///
  /// - Throws: `MeshError.unknownActor` when the node is this one and no such actor lives here.
  public static func on(_ node: NodeName, using system: SocketActorSystem) throws -> Self {
    try resolve(id: MeshActorID(node: node, name: name), using: system)
  }

  /// The targets that `calls` reaches, in order of the calls, none of which is sent. For the test of `targets`.
  public static func recordTargets(
    _ calls: (Self) async throws -> Void
  ) async throws -> [MeshTarget.Signature] {
    let recorder = TargetRecorder()
    let system = SocketActorSystem(carrier: recorder, recorder: recorder)
    try await calls(resolve(id: MeshActorID(node: recorder.remoteNode, name: name), using: system))
    return recorder.signatures
  }

  /// Refuses a list that names another type's target: a mangled target begins with the name of its type.
  static func checkTargets() {
    let own = "$s\(_mangledTypeName(self) ?? "")"
    for target in targets {
      precondition(
        target.signature.identifier.utf8.starts(with: own.utf8),
        "'\(target.signature.identifier)' in the targets of \(self) is not a target of that type")
    }
  }
}
