//! The names of claims that have a meaning already, so that no tenant can give them another.

/// The IANA registry "JSON Web Token Claims", as of November 2026. Names that are registered later
/// can be added: those that tenants use by then are no longer put into tokens.
pub const REGISTERED: &str = "\
    iss sub aud exp nbf iat jti \
    name given_name family_name middle_name nickname preferred_username profile picture website \
    email email_verified gender birthdate zoneinfo locale phone_number phone_number_verified \
    address updated_at azp nonce auth_time at_hash c_hash acr amr sub_jwk cnf sip_from_tag sip_date \
    sip_callid sip_cseq_num sip_via_branch orig dest mky events toe txn rph sid vot vtm attest \
    origid act scope client_id may_act jcard at_use_nbr div opt vc vp sph ace_profile cnonce exi \
    roles groups entitlements token_introspection eat_nonce ueid sueids oemid hwmodel hwversion \
    oemboot dbgstat location eat_profile submods uptime bootcount bootseed dloas swname swversion \
    manifests measurements measres intuse cdniv cdnicrit cdniip cdniuc cdniets cdnistt cdnistd \
    sig_val_claims authorization_details verified_claims place_of_birth nationalities \
    birth_family_name birth_given_name birth_middle_name salutation title msisdn also_known_as htm \
    htu ath atc sub_id rcd rcdi crn msgi _claim_names _claim_sources rdap_allowed_purposes \
    rdap_dnt_allowed geohash _sd ... _sd_alg sd_hash consumerPlmnId consumerSnpnId producerPlmnId \
    producerSnpnId producerSnssaiList producerNsiList producerNfSetId producerNfServiceSetId \
    sourceNfInstanceId analyticsIdList resOwnerId cmw jwks metadata constraints crit ref delegation \
    logo_uri authority_hints metadata_policy metadata_policy_crit trust_marks trust_mark_issuers \
    trust_mark_owners source_endpoint trust_anchor vct status status_list ttl";

/// Names that Keyward uses or keeps for itself, and names that resource servers act on although
/// they are not registered.
pub const OURS: &str = "\
    tenant epochs parents active token_type username permissions permission privileges authorities \
    scp scopes role groups_direct admin is_admin superuser user user_id uid upn org org_id realm \
    realm_access resource_access kid alg typ jku jwk x5u x5c x5t";

/// Whether a name is one of these. Upper and lower case count as the same.
pub fn is_reserved(name: &str) -> bool {
    let mut all = REGISTERED.split_whitespace().chain(OURS.split_whitespace());
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("keyward"))
        || all.any(|other| other.eq_ignore_ascii_case(name))
}
