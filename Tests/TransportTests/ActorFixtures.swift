import Distributed
import Primitives

@testable import Transport

struct Book: Codable, Hashable, Sendable {
  enum Format: Codable, Hashable, Sendable {
    case paper(pages: Int)
    case audio
  }
  var title: String
  var format: Format
  var isbn: UInt64?
  var ratings: [String: Double]
  var cover: [UInt8]
}

distributed actor Library: MeshActor {
  typealias ActorSystem = SocketActorSystem

  static let name = "library"
  static let targets: [MeshTarget] = [
    MeshTarget("$s14TransportTests7LibraryC4echoyAA4BookVAFYaKFTE") { (library: Library, book: Book) in
      try await library.echo(book)
    },
    MeshTarget("$s14TransportTests7LibraryC3addyS2i_SitYaKFTE") { (library: Library, a: Int, b: Int) in
      try await library.add(a, b)
    },
    MeshTarget("$s14TransportTests7LibraryC4noteyySiYaKFTE") { (library: Library, number: Int) in try await library.note(number)
    },
    MeshTarget("$s14TransportTests7LibraryC5notedSaySiGyYaKFTE", order: .brief) { (library: Library) in
      try await library.noted()
    },
    MeshTarget("$s14TransportTests7LibraryC4fail4withySS_tYaKFTE", arguments: 1),
    MeshTarget("$s14TransportTests7LibraryC5breakyyYaKFTE", arguments: 0),
    MeshTarget("$s14TransportTests7LibraryC4holdyyYaKFTE") { (library: Library) in try await library.hold() },
    MeshTarget("$s14TransportTests7LibraryC5watchyyYaKFTE", arguments: 0, order: .concurrent),
    MeshTarget("$s14TransportTests7LibraryC6callerSSSgyYaKFTE", arguments: 0),
    MeshTarget("$s14TransportTests7LibraryC5traceSSyYaKFTE", arguments: 0),
    MeshTarget("$s14TransportTests7LibraryC9remainingSiyYaKFTE", arguments: 0),
    MeshTarget("$s14TransportTests7LibraryC6secretSiyYaKFTE", arguments: 0),
    MeshTarget("$s14TransportTests7LibraryC4sizeSiyYaKFTE", arguments: 0),
  ]

  static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool {
    !target.signature.identifier.contains("secret")
  }

  struct Unlisted: Error {}

  private var notes: [Int] = []
  private let started: Gate
  private let gate: Gate

  init(actorSystem: SocketActorSystem, started: Gate = Gate(), gate: Gate = Gate()) {
    self.actorSystem = actorSystem
    self.started = started
    self.gate = gate
  }

  distributed func echo(_ book: Book) async throws -> Book { book }
  distributed func add(_ a: Int, _ b: Int) async throws -> Int { a &+ b }
  distributed func note(_ number: Int) async throws {
    // A suspension, so that a reentrant start of the next call would swap the notes.
    await Task.yield()
    notes.append(number)
  }
  distributed func noted() async throws -> [Int] { notes }
  distributed func fail(with words: String) async throws { throw MeshError(.conflict, words) }
  distributed func `break`() async throws { throw Unlisted() }
  /// Waits until the gate opens or the call is cancelled.
  distributed func hold() async throws {
    await started.open()
    try await withTaskCancellationHandler {
      await gate.wait()
      try Task.checkCancellation()
    } onCancel: {
      Task { [gate] in await gate.open() }
    }
  }
  distributed func watch() async throws { await gate.wait() }
  distributed func caller() async throws -> String? { RemoteCall.caller?.string }
  distributed func trace() async throws -> String { "\(RemoteCall.trace?.span ?? 0)" }
  distributed func remaining() async throws -> Int {
    RemoteCall.deadline.map { Int(($0 - .now).inMilliseconds) } ?? -1
  }
  distributed func secret() async throws -> Int { 42 }
  distributed var size: Int { notes.count }
}

/// Another type, whose targets must never run on a `Library`.
distributed actor Vault: MeshActor {
  typealias ActorSystem = SocketActorSystem

  static let name = "vault"
  static let targets: [MeshTarget] = []
  static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private var contents = [1, 2, 3]

  distributed func openUp(_ index: Int) async throws -> Int { contents[index] }
}
