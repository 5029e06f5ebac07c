import Cluster
import Consensus
import FoundationEssentials
import HTTPCodec
import MeshActors
import MeshConfig
import Primitives
import Transport

/// Objects as they come, change and go, told to whoever keeps the connection.
extension AdminRoutes {
  /// Sends every object that is asked for as added, then each change as soon as this node has it.
  func watch(_ request: HTTPRequest, _ exchange: HTTPExchange) async throws {
    let filter = try ObjectFilter(QueryParameters(request.query))
    let (opened, open) = AsyncStream.makeStream(of: Void.self)
    let watcher = Task {
      // Events follow the head of the answer.
      for await _ in opened {}
      await send(filter, to: exchange)
      exchange.end()
    }
    exchange.openStream { watcher.cancel() }
    open.finish()
  }

  private func send(_ filter: ObjectFilter, to exchange: HTTPExchange) async {
    _ = await node.catchingUp.isDone()
    var told = ToldObjects()
    for await _ in node.cluster.changes() {
      let control = node.cluster.view.control
      guard told.isBehind(control) else { continue }
      for event in told.catchUp(with: control, filter, await objectStatus()) {
        guard let line = try? AdminRoutes.line(event) else { continue }
        exchange.send(line)
      }
    }
  }

  private static func line(_ event: ObjectEvent) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(event))
  }
}

/// What a watcher has been told.
private struct ToldObjects {
  private var objects: [Consensus.ObjectKey: StoredObjectInfo] = [:]
  private var revision: LogIndex?
  /// Addresses come to hosts without a revision.
  private var addresses: [String: ServiceAddress] = [:]

  func isBehind(_ control: ControlState) -> Bool { revision != control.revision || addresses != control.addresses }

  /// What to tell now: each revision since the last look in its turn, and within one in the order of keys. Who looks late is told
  /// of what came and went meanwhile, too, as far back as the history goes.
  mutating func catchUp(
    with control: ControlState, _ filter: ObjectFilter, _ status: ObjectStatus
  ) -> [ObjectEvent] {
    defer { (revision, addresses) = (control.revision, control.addresses) }
    let written = written(with: control, filter, status)
    return addresses == control.addresses ? written : written + addressed(with: control, status)
  }

  private mutating func written(
    with control: ControlState, _ filter: ObjectFilter, _ status: ObjectStatus
  ) -> [ObjectEvent] {
    guard let revision, let later = control.revisions.later(than: revision), later.last?.number == control.revision else {
      return events(Set(objects.keys).union(control.objects.keys), in: control.objects, filter, status)
    }
    return later.flatMap { step in
      events(Set(step.changes.map(\.key)), in: control.objects(at: step.number) ?? control.objects, filter, status)
    }
  }

  /// Objects whose hosts were given addresses, or have other ones, since they were told.
  private mutating func addressed(with control: ControlState, _ status: ObjectStatus) -> [ObjectEvent] {
    var events: [ObjectEvent] = []
    for key in objects.keys.sorted() where key.kind == ObjectKind.serviceEntry.rawValue {
      guard let stored = control.objects[key], let object = StoredObjectInfo(stored, status),
        object.addresses != objects[key]?.addresses
      else { continue }
      objects[key] = object
      events.append(ObjectEvent(type: .modified, object: object))
    }
    return events
  }

  private mutating func events(
    _ keys: Set<Consensus.ObjectKey>, in state: [Consensus.ObjectKey: Consensus.StoredObject], _ filter: ObjectFilter,
    _ status: ObjectStatus
  ) -> [ObjectEvent] {
    var events: [ObjectEvent] = []
    let ordered = keys.sorted()
    for key in ordered where state[key] == nil {
      if let gone = objects.removeValue(forKey: key) { events.append(ObjectEvent(type: .deleted, object: gone)) }
    }
    for key in ordered where filter.admits(key) {
      guard let stored = state[key] else { continue }
      let known = objects[key]
      if known?.resourceVersion == stored.version.number { continue }
      guard let object = StoredObjectInfo(stored, status) else { continue }
      objects[key] = object
      // Deleted and made anew between two looks: both are told.
      if let known, known.creationIndex != object.creationIndex {
        events.append(ObjectEvent(type: .deleted, object: known))
        events.append(ObjectEvent(type: .added, object: object))
      } else {
        events.append(ObjectEvent(type: known == nil ? .added : .modified, object: object))
      }
    }
    return events
  }
}
