import Cluster
import Consensus
import MeshConfig
import Primitives

/// Objects of the log decoded once, and again only when they were written anew.
public struct DecodedObjects: Sendable {
  /// What is other than in the state that was looked at before.
  public enum Change: Sendable {
    case everything([MeshConfig.StoredObject])
    case some(gone: [MeshConfig.ObjectKey], put: [MeshConfig.StoredObject])
  }

  private var decoded: [Consensus.ObjectKey: (version: LogIndex, object: MeshConfig.StoredObject)] = [:]
  /// Why objects of the state have no effect: this version cannot read them, or does not act on their kind.
  private var reasons: [Consensus.ObjectKey: String] = [:]
  private var revision: LogIndex?
  /// Whether Secrets could be opened when they were decoded.
  private var hadKey = false

  /// Objects of the state that are kept and not in force, each with the reason.
  public var notEnforced: [String] { reasons.keys.sorted().compactMap { key in reasons[key].map { "\(key): \($0)" } } }

  public init() {}

  /// The state's objects in the order of their keys.
  ///
  /// - Parameter secrets: opens the values of Secrets.
  public mutating func objects(of control: ControlState, secrets: SecretSeal) -> [MeshConfig.StoredObject] {
    if revision != control.revision || hadKey != secrets.isShared { _ = change(to: control, secrets: secrets) }
    return decoded.keys.sorted().compactMap { decoded[$0]?.object }
  }

  /// Takes a state and says what is new in it; what its history tells of is all that is looked at.
  public mutating func change(to control: ControlState, secrets: SecretSeal) -> Change {
    defer { revision = control.revision }
    if hadKey != secrets.isShared { self = DecodedObjects() }
    hadKey = secrets.isShared
    if let revision, let keys = Self.keysChanged(since: revision, control) {
      var gone: [MeshConfig.ObjectKey] = []
      var put: [MeshConfig.StoredObject] = []
      for key in keys.sorted() {
        let old = decoded.removeValue(forKey: key)?.object.key
        reasons[key] = nil
        if let stored = control.objects[key], let object = decode(key, stored, secrets) {
          put.append(object)
        } else if let old {
          gone.append(old)
        }
      }
      return .some(gone: gone, put: put)
    }
    let (known, knownReasons) = (decoded, reasons)
    (decoded, reasons) = ([:], [:])
    let objects = control.sortedObjects.compactMap { key, stored -> MeshConfig.StoredObject? in
      guard let same = known[key], same.version == stored.version else { return decode(key, stored, secrets) }
      decoded[key] = same
      reasons[key] = knownReasons[key]
      return same.object
    }
    return .everything(objects)
  }

  private mutating func decode(
    _ key: Consensus.ObjectKey, _ stored: Consensus.StoredObject, _ secrets: SecretSeal
  ) -> MeshConfig.StoredObject? {
    do throws(CanonicalError) {
      let object = MeshConfig.StoredObject(
        try MeshObject.decode(canonical: stored.bytes, opening: secrets.open), created: stored.created.number)
      decoded[key] = (stored.version, object)
      reasons[key] = object.object.notEnforced
      return object
    } catch {
      reasons[key] = error.reason
      return nil
    }
  }

  /// Keys of all changes after a revision; nil when the history does not say.
  private static func keysChanged(since revision: LogIndex, _ control: ControlState) -> Set<Consensus.ObjectKey>? {
    if control.revision == revision { return [] }
    guard let later = control.revisions.later(than: revision), later.last?.number == control.revision else { return nil }
    return Set(later.flatMap(\.changes).map(\.key))
  }
}
