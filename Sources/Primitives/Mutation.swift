/// Deliberate faults in the cores, each of which the simulation has to catch: a checker that has never failed proves nothing.
///
/// They exist only in builds with MUTATIONS defined (`make mutations`); elsewhere `mutated` is the constant false.
public enum Mutation: Int, CaseIterable, Sendable {
  /// A server grants its vote to everybody who asks in a term.
  case voteTwice
  /// A server votes for a candidate whose log lacks entries.
  case voteForWhoLacksEntries
  /// A leader commits entries that only it holds.
  case commitAlone
  /// A follower appends without looking at what comes before.
  case appendBlindly
  /// A leader answers reads without asking whether it still leads.
  case readWithoutAsking
  /// A server whose disk lost entries votes as if it had not.
  case voteBeforeHealing
  /// A holder acts after its lease has ended.
  case actWithoutLease
  /// A role is assigned while the holder's lease runs.
  case assignEarly
  /// A holder that hands its role over goes on acting.
  case actAfterHandingOver
  /// Rows are taken without looking at the signature.
  case believeRows
  /// A node that is suspected says nothing.
  case neverRefute
  /// A node outside of the consensus does not pull.
  case neverPull
  /// Nobody replaces voters.
  case keepVoters
}

#if MUTATIONS
  import Synchronization

  extension Mutation {
    private static let current = Atomic<Int>(-1)
    /// The fault in force.
    public static var active: Mutation? {
      get { Mutation(rawValue: current.load(ordering: .relaxed)) }
      set { current.store(newValue?.rawValue ?? -1, ordering: .relaxed) }
    }
  }

  public func mutated(_ mutation: Mutation) -> Bool { Mutation.active == mutation }
#else
  /// False: this build has no deliberate faults.
  @inlinable @inline(__always) public func mutated(_ mutation: Mutation) -> Bool { false }
#endif
