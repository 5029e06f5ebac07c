import Membership
import Primitives

/// Checkers, named by when they must hold.
extension MembershipCluster {
  /// Every running node holds every running node for alive.
  public var finallyAllAgreeOnLife: Bool {
    let up = upIndices
    return up.allSatisfy { observer in
      up.allSatisfy { nodes[observer].swim.member(nodes[$0].name)?.state == .alive }
    }
  }

  /// Every running node holds the member in that state.
  public func eventuallyAllSee(_ index: Int, _ state: MemberState) -> Bool {
    upIndices.filter { $0 != index }.allSatisfy { nodes[$0].swim.member(nodes[index].name)?.state == state }
  }

  /// All running nodes have equal registries.
  public var finallyRegistriesAreEqual: Bool {
    let up = upIndices
    guard let first = up.first else { return true }
    let digest = nodes[first].registry.digest
    return up.allSatisfy { nodes[$0].registry.digestHash == nodes[first].registry.digestHash }
      && up.allSatisfy { nodes[$0].registry.digest == digest }
  }

  /// No row differs from what its owner, if it runs, wrote under that version.
  public var alwaysRowsAreTheirOwners: Bool {
    upIndices.allSatisfy { holder in
      upIndices.allSatisfy { owner in
        nodes[owner].registry.digest.allSatisfy { entry in
          guard entry.owner == nodes[owner].name else { return true }
          let held = nodes[holder].registry.digest.first { $0.owner == entry.owner }
          return held.map { $0.version <= entry.version } ?? true
        }
      }
    }
  }
}
