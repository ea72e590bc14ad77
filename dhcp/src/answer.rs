//! The outcome of one frame: what to send, or why nothing is sent.

/// What to do about a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Write this to the guest.
    Send(Sent),
    /// Say nothing; the reason goes to the log and the counters.
    Ignore(Ignored),
}

/// A frame to the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The whole ethernet frame.
    pub frame: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// How many options found no room in it.
    pub left_out: usize,
}

/// What a frame to the guest is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK that gives or extends the lease.
    Ack,
    /// DHCPACK to a DHCPINFORM: options without an address.
    InformAck,
    /// DHCPNAK: the guest asked for an address that is not its own.
    Nak,
    /// DHCPv6 Advertise.
    Advertise,
    /// DHCPv6 Reply that gives or extends the address.
    Reply,
    /// DHCPv6 Reply that delegates the prefix or extends it, and gives no address.
    ReplyPrefix,
    /// DHCPv6 Reply to a Request, Renew or Rebind that named nothing to give, or to a
    /// Decline of what is not the guest's.
    ReplyNothing,
    /// DHCPv6 Reply to a Confirm.
    Confirmed,
    /// DHCPv6 Reply to a Release. The address stays the guest's.
    Released,
    /// DHCPv6 Reply to a Decline: the guest found its address in use elsewhere.
    Declined,
    /// DHCPv6 Reply to an Information-request.
    Information,
    /// A router advertisement.
    RouterAdvertisement,
}

/// Why a frame is not answered.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Ignored {
    /// Too short, or a length that contradicts another one.
    #[error("the frame is malformed")]
    Malformed,
    /// Carries an 802.1Q or 802.1ad tag.
    #[error("the frame is VLAN-tagged")]
    Tagged,
    /// An IP fragment: clients never need to fragment.
    #[error("the packet is a fragment")]
    Fragment,
    /// No protocol that is answered here.
    #[error("the packet is for another protocol")]
    OtherProtocol,
    /// The ethernet source or `chaddr` is not the port's MAC address.
    #[error("the sender is not the port's own MAC address")]
    ForeignMac,
    /// Addressed to some other host.
    #[error("the packet is addressed to another host")]
    OtherDestination,
    /// A checksum is wrong where the guest cannot have left it to hardware.
    #[error("a checksum is wrong")]
    Checksum,
    /// A BOOTREPLY, or a message type that only servers send.
    #[error("the message is one that only servers send")]
    FromServer,
    /// BOOTP without the DHCP magic cookie or message type.
    #[error("the message is BOOTP and not DHCP")]
    NotDhcp,
    /// Hardware type or address length other than ethernet's.
    #[error("the hardware type is not ethernet")]
    NotEthernet,
    /// Came through a relay agent (`giaddr`, Relay-forward): a guest is no relay.
    #[error("the message was relayed")]
    Relayed,
    /// A message type that is not answered here.
    #[error("the message type is not supported")]
    UnknownType,
    /// The guest chose another server (RFC 2131 §3.1 (4), RFC 9915 §16).
    #[error("the client addressed another server")]
    OtherServer,
    /// An option that this message type must or must not carry (RFC 9915 §16).
    #[error("the message breaks the rules of its type")]
    Invalid,
    /// The binding has nothing for this protocol.
    #[error("the binding has nothing for this protocol")]
    NoBinding,
    /// DHCPRELEASE: it gets no answer, and a binding outlives it.
    #[error("a binding outlives a release")]
    Release,
    /// DHCPDECLINE: it gets no answer; the guest found its address in use elsewhere.
    #[error("the client found its address in use")]
    Decline,
    /// DHCPDECLINE of an address that is not the guest's.
    #[error("the client declined an address that is not its own")]
    ForeignDecline,
    /// A Confirm without addresses cannot be judged (RFC 9915 §18.3.3).
    #[error("the confirm names no address")]
    NothingToConfirm,
}

impl Kind {
    /// Every kind, for counters that exist before they count.
    pub const ALL: [Self; 13] = [
        Self::Offer,
        Self::Ack,
        Self::InformAck,
        Self::Nak,
        Self::Advertise,
        Self::Reply,
        Self::ReplyPrefix,
        Self::ReplyNothing,
        Self::Confirmed,
        Self::Released,
        Self::Declined,
        Self::Information,
        Self::RouterAdvertisement,
    ];

    /// The value of the `type` label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Ack => "ack",
            Self::InformAck => "inform_ack",
            Self::Nak => "nak",
            Self::Advertise => "advertise",
            Self::Reply => "reply",
            Self::ReplyPrefix => "reply_prefix",
            Self::ReplyNothing => "reply_nothing",
            Self::Confirmed => "reply_confirm",
            Self::Released => "reply_release",
            Self::Declined => "reply_decline",
            Self::Information => "reply_information",
            Self::RouterAdvertisement => "router_advertisement",
        }
    }
}

impl Ignored {
    /// Every reason, for counters that exist before they count.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::Tagged,
        Self::Fragment,
        Self::OtherProtocol,
        Self::ForeignMac,
        Self::OtherDestination,
        Self::Checksum,
        Self::FromServer,
        Self::NotDhcp,
        Self::NotEthernet,
        Self::Relayed,
        Self::UnknownType,
        Self::OtherServer,
        Self::Invalid,
        Self::NoBinding,
        Self::Release,
        Self::Decline,
        Self::ForeignDecline,
        Self::NothingToConfirm,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Tagged => "tagged",
            Self::Fragment => "fragment",
            Self::OtherProtocol => "other_protocol",
            Self::ForeignMac => "foreign_mac",
            Self::OtherDestination => "other_destination",
            Self::Checksum => "checksum",
            Self::FromServer => "from_server",
            Self::NotDhcp => "not_dhcp",
            Self::NotEthernet => "not_ethernet",
            Self::Relayed => "relayed",
            Self::UnknownType => "unknown_type",
            Self::OtherServer => "other_server",
            Self::Invalid => "invalid",
            Self::NoBinding => "no_binding",
            Self::Release => "release",
            Self::Decline => "decline",
            Self::ForeignDecline => "foreign_decline",
            Self::NothingToConfirm => "nothing_to_confirm",
        }
    }
}
