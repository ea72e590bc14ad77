//! The list of scenarios. One binary, so that it links once.
//!
//! `cargo test -p tests -- embedded` runs those against the embedded API,
//! `-- vm_lifecycle` those of one file; `-- --list` names them all.

mod address_life;
mod admission;
mod adoption;
mod adoption_more;
mod agent_kills;
mod api_kubectl;
mod api_promises;
mod attachments;
mod bad_input;
mod binding;
mod churn;
mod claims;
mod counters;
mod data_volumes;
mod delegation;
mod egress;
mod examples;
mod families;
mod farewell;
mod fencing;
mod flags;
mod given;
mod guest_agent;
mod guest_options;
mod guides;
mod hardware;
mod hotplug;
mod images;
mod import_kills;
mod instancetypes;
mod keeping;
mod layers;
mod ledger_fight;
mod mending;
mod migration;
mod migration_kills;
mod netboot;
mod node_loss;
mod ovn_restarts;
mod paths;
mod peer_faults;
mod placement;
mod pools;
mod port_lifecycle;
mod port_names;
mod renewals;
mod replica_sets;
mod restarts;
mod schema_rules;
mod store;
mod subresources;
mod succession;
mod topology;
mod uploads;
mod vips;
mod virtctl;
mod vm_lifecycle;
mod volumes;

use std::process::ExitCode;

use fencing::Fenced;
use flags::Fleeting;
use hardware::Apart;
use ledger_fight::Rivals;
use tests::cluster::{Cluster, Flavour};
use tests::stories;
use tests::suite::{Story, Suite};
use tests::world::{Choice, World};

fn main() -> std::io::Result<ExitCode> {
    let mut suite = Suite::new()?;
    suite.plain(
        "layers::each_crate_depends_only_on_the_layers_below_it",
        layers::each_crate_depends_only_on_the_layers_below_it,
    );
    suite.plain(
        "peer_faults::every_fault_of_a_peer_has_the_tests_that_its_line_names",
        peer_faults::every_fault_of_a_peer_has_the_tests_that_its_line_names,
    );
    suite.group("review", Flavour::Embedded, review_stories());
    suite.group(
        "examples",
        Choice { flavour: Flavour::Embedded, guests: true, reviews: true },
        stories![
            examples:
                what_the_examples_up_to_h_show_is_found_in_their_guests,
                what_the_examples_from_i_on_show_is_found_in_their_guests;
        ],
    );
    suite.group(
        "steps",
        Choice { flavour: Flavour::Embedded, guests: true, reviews: false },
        stories![
            agent_kills:
                an_agent_may_die_at_each_step_and_the_next_one_ends_what_it_began,
                a_node_that_was_restarted_has_its_vms_again_by_their_strategies;
        ],
    );
    for flavour in [Flavour::Embedded, Flavour::Real] {
        if flavour == Flavour::Real {
            suite.lane();
        }
        let mut api = api_stories();
        if flavour == Flavour::Real {
            // Our own runs no rules in CEL.
            api.extend(stories![
                schema_rules:
                    what_others_rely_on_cannot_be_changed,
                    what_a_vip_was_given_stays;
            ]);
        }
        suite.group(&format!("api_{}", flavour.name()), flavour, api);
        let choice = Choice { flavour, guests: false, reviews: false };
        let mut fake = fake_stories();
        if flavour == Flavour::Embedded {
            // What it asks of an API others ask of both.
            fake.extend(stories![
                import_kills: an_agent_may_die_at_each_step_of_an_import;
            ]);
        }
        suite.group(&format!("fake_{}", flavour.name()), choice, fake);
        suite.group(&format!("fight_{}", flavour.name()), flavour, fight_stories());
        suite.group(&format!("flags_{}", flavour.name()), flavour, flag_stories());
        let choice = Choice { flavour, guests: true, reviews: false };
        let mut lab = lab_stories();
        if flavour == Flavour::Embedded {
            // What the API is has no part in them.
            lab.extend(stories![
                hardware:
                    what_firmware_and_tpm_know_outlives_stops_moves_and_a_killed_agent;
                mending:
                    what_is_wrong_with_a_vm_is_told_with_what_to_do_and_once_mended_it_runs;
                migration:
                    a_guest_that_takes_too_long_goes_on_as_its_policy_says;
                node_loss:
                    a_guest_left_over_on_a_lost_node_is_not_heard_and_ends_when_the_node_is_back;
            ]);
            suite.group("fencing_embedded", flavour, fencing_stories());
        }
        suite.group(&format!("lab_{}", flavour.name()), choice, lab);
        if flavour == Flavour::Embedded {
            suite.group("apart_embedded", flavour, apart_stories());
        }
        suite.group(
            &format!("virtctl_{}", flavour.name()),
            flavour,
            stories![
                virtctl:
                    stock_virtctl_starts_joins_pauses_moves_and_stops_a_vm;
                uploads:
                    a_disk_is_uploaded_though_the_agent_that_takes_it_dies_meanwhile;
                hotplug:
                    the_hardware_of_a_guest_that_runs_changes_in_place;
            ],
        );
        let choice = Choice { flavour, guests: false, reviews: true };
        suite.group(
            &format!("review_{}", flavour.name()),
            choice,
            stories![
                bad_input: all_that_cannot_be_is_refused_when_it_is_written;
                guides: what_the_guides_show_comes_into_force_as_it_stands;
                succession: a_successor_is_let_in_while_its_predecessor_goes;
                farewell: a_vm_is_there_until_its_guest_is_gone;
            ],
        );
        // What follows leaves no schema.
        let choice = Choice { flavour, guests: false, reviews: false };
        suite.group(
            &format!("past_{}", flavour.name()),
            choice,
            stories![bad_input: what_gets_past_is_told_on_its_object_and_harms_no_other],
        );
    }
    Ok(suite.run())
}

/// An API by itself, with our CRDs.
fn api_stories() -> Vec<(&'static str, Story<Cluster>)> {
    stories![
        api_kubectl:
            short_names_find_our_kinds,
            apply_creates_then_changes_then_leaves_alone,
            apply_of_a_file_with_several_documents,
            get_prints_the_columns_of_the_kind,
            get_selects_by_label_and_field,
            get_watch_shows_changes_as_they_happen,
            get_watch_prints_tables_too,
            wait_returns_when_the_condition_holds,
            describe_shows_the_object_and_its_events,
            edit_changes_what_the_editor_changed,
            patch_works_in_each_of_its_forms,
            a_mistake_is_refused_with_its_place,
            a_namespace_takes_its_objects_with_it,
            create_needs_no_file_for_kinds_that_kubectl_knows;
        api_promises:
            of_two_writers_with_one_version_one_loses,
            a_name_is_taken_once,
            status_and_spec_are_written_apart,
            an_instance_has_no_status_subresource,
            a_write_that_changes_nothing_is_no_event,
            a_finalizer_holds_an_object_until_it_goes,
            what_is_owned_goes_with_its_owner,
            foreground_deletion_takes_the_owned_first,
            a_delete_for_another_uid_is_refused,
            a_watch_continues_where_a_list_ended,
            what_was_answered_survives_kill_minus_nine;
        schema_rules:
            what_cannot_be_is_refused_with_field_and_value,
            empty_fields_mean_what_absent_ones_do,
            a_machine_that_does_not_fit_its_type_is_refused;
    ]
}

/// Of an embedded API that looks at what is written.
fn review_stories() -> Vec<(&'static str, Story<Cluster>)> {
    stories![bad_input: an_api_that_reviews_refuses_what_one_that_does_not_takes]
}

/// Controller and agents over a real northbound database, without guests.
fn fake_stories() -> Vec<(&'static str, Story<World>)> {
    stories![
        admission:
            a_wrong_subnet_says_so_and_harms_no_other,
            an_address_of_another_network_is_refused_on_that_vm,
            a_taken_address_is_refused_until_it_is_free,
            a_vm_that_came_before_its_subnet_is_served_after_it,
            a_reserved_address_is_given_to_its_vm_and_to_no_other,
            a_vm_that_says_twice_when_it_runs_is_refused_or_left_as_it_is,
            a_changed_template_asks_for_a_restart,
            an_address_block_that_cannot_be_read_frees_no_address,
            a_subnet_in_use_waits_for_its_vms_when_deleted,
            all_of_it_can_be_deleted;
        topology:
            routes_of_a_vpc_are_its_routers_and_a_bad_one_is_named,
            a_private_subnet_is_reached_from_where_it_says_and_never_opens_in_between,
            two_vpcs_are_linked_once_both_say_so,
            one_network_serves_two_vpcs_and_is_refused_twice_in_one,
            an_edit_by_which_held_addresses_fall_out_names_their_holders,
            what_was_made_for_topology_goes_without_a_trace;
        paths:
            several_next_hops_of_a_policy_are_one_row,
            a_route_of_a_table_is_for_the_subnets_of_that_table,
            what_is_let_pass_within_a_subnet_is_let_pass_beside_its_rules;
        families:
            a_vm_keeps_its_address_when_its_subnet_gets_another_family_and_has_both_at_its_next_start;
        vips:
            a_port_may_do_what_its_template_lets_it,
            a_vip_is_kept_over_a_kill_and_given_to_no_vm,
            a_vip_of_a_mac_alone_or_of_ipv6_has_the_same_place_after_a_restart,
            a_vip_moves_between_the_ports_that_carry_it,
            a_vip_is_the_own_address_of_one_vm_at_a_time,
            an_address_that_a_subnet_lists_is_nobodys_own,
            what_was_made_for_vips_goes_without_a_trace;
        address_life:
            an_ip_object_deleted_by_hand_frees_its_address_but_not_under_a_guest,
            a_place_survives_whatever_ends_the_instance,
            an_address_whose_guest_may_live_on_rests_as_long_as_its_lease,
            an_orphaned_instance_keeps_its_place_until_it_ends,
            an_instance_without_a_vm_keeps_its_place_until_it_is_deleted,
            an_instance_takes_nothing_from_the_vm_of_its_name,
            a_changed_template_counts_at_the_next_start_for_each_nic,
            a_mac_is_one_ports_in_its_vpc,
            a_mac_is_one_ports_in_all_subnets_of_its_vpc_and_may_be_had_in_another,
            a_pool_gives_its_first_free_address_and_says_when_there_is_none,
            an_annotation_without_effect_is_named,
            a_vpc_places_the_vms_of_its_namespaces;
        attachments:
            an_attachment_used_twice_is_two_nics_of_which_each_keeps_its_place,
            the_ports_of_a_vm_with_two_nics_come_and_go_in_one_transaction,
            what_multus_list_asks_for_a_nic_it_has;
        adoption:
            a_kube_ovn_cluster_is_taken_over_with_its_rows_addresses_and_macs;
        adoption_more:
            vips_pools_links_and_further_nics_of_kube_ovn_are_taken_over;
        binding:
            a_subnet_chooses_namespaces_by_their_labels,
            a_switch_that_snoops_asks_as_its_router;
        peer_faults:
            a_reservation_without_a_vm_survives_a_restart,
            a_stopped_vm_keeps_every_nic_over_a_restart,
            what_was_deleted_while_the_controller_was_down_is_given_back,
            many_subnets_of_one_vpc_made_at_once_are_all_in_force;
        keeping:
            a_list_of_multus_that_cannot_be_read_takes_no_nic_away,
            a_stopped_vm_that_is_deleted_gives_back_the_addresses_of_every_nic,
            an_address_that_is_excluded_later_stays_its_vms_and_goes_to_no_other,
            a_guest_is_heard_as_no_dhcp_server;
        given:
            what_is_written_on_a_running_vms_objects_moves_it_nowhere,
            a_lost_block_of_the_ledger_takes_no_address_from_a_vm_that_is_stopped,
            an_edit_of_a_subnet_that_cannot_be_takes_nothing_also_over_a_restart;
        pools:
            a_pool_serves_those_who_name_it_and_no_others,
            a_bad_pool_says_so_and_harms_nobody,
            a_pool_and_its_holders_survive_a_killed_controller,
            a_vm_that_wants_one_family_has_nothing_of_the_other;
        guest_options:
            a_bad_option_is_named_where_it_is_written_and_stops_nobody;
        claims:
            a_claim_is_the_address_of_whoever_refers_to_it_one_at_a_time,
            a_claim_that_cannot_be_used_is_told_on_the_vm_and_one_named_after_it_is_its,
            without_the_definition_of_claims_all_else_is_served;
        egress:
            each_node_has_a_place_while_a_subnet_wants_out;
        migration:
            a_migration_that_cannot_be_says_why;
        subresources:
            what_virtctl_asks_for_starts_and_stops_a_vm,
            what_cannot_be_is_refused_in_kubevirts_words,
            a_paused_vm_says_so_until_it_goes_on,
            a_vm_that_is_started_paused_waits_whoever_dies_meanwhile,
            nobody_but_the_api_is_answered,
            a_killed_controller_is_found_again;
        node_loss:
            a_vm_on_a_lost_node_keeps_its_place_and_starts_elsewhere_once_it_is_out_of_service,
            a_port_without_a_node_is_bound_by_nobody_who_has_its_name,
            a_silent_node_is_given_no_vm_and_gives_up_its_own_once_it_is_deleted,
            a_node_deleted_under_a_living_agent_comes_back_and_its_guests_run_on;
        counters:
            counts_beyond_64_bits_are_read_back_by_kubectl_and_by_the_typed_client;
        ovn_restarts:
            every_port_is_right_after_databases_and_northd_died_amid_changes;
        port_names:
            of_two_subnets_with_one_port_the_later_says_so_and_takes_nothing,
            a_vm_takes_no_port_of_a_subnet_or_of_a_vm_elsewhere,
            a_name_too_long_for_a_label_is_told_and_nobody_waits_without_a_word,
            a_text_that_ovn_cannot_have_is_told_and_holds_up_nobody;
        placement:
            a_vm_that_no_node_takes_says_why_and_starts_once_one_does;
        instancetypes:
            a_vm_is_as_large_as_its_instancetype_was_when_it_first_named_it;
        replica_sets:
            a_replica_set_has_as_many_instances_as_it_is_scaled_to;
        volumes:
            a_vm_waits_for_its_claim_and_starts_where_the_volume_is;
        churn:
            two_hundred_vms_come_and_go_and_leave_nothing,
            the_status_of_a_subnet_is_written_once_a_second_however_many_vms_come_and_go,
            a_start_among_two_hundred_vms_writes_nothing,
            a_new_vm_of_an_old_name_has_a_place_of_its_own,
            the_same_with_kills_in_between_leaves_nothing_either,
            subnets_and_vpcs_go_from_ovn_with_their_objects;
    ]
}

/// The same with two controllers.
fn fight_stories() -> Vec<(&'static str, Story<Rivals>)> {
    stories![ledger_fight: two_controllers_never_give_an_address_twice]
}

/// The same with a controller of other flags.
fn flag_stories() -> Vec<(&'static str, Story<Fleeting>)> {
    stories![
        flags:
            the_default_subnet_is_made_serves_all_and_is_its_editors,
            without_keep_vm_ip_a_place_lives_as_long_as_one_start,
            without_keep_vm_ip_an_instance_alone_keeps_its_place_until_it_is_deleted;
    ]
}

/// The same with a command that makes sure that a node is off.
fn fencing_stories() -> Vec<(&'static str, Story<Fenced>)> {
    stories![fencing: a_lost_node_is_fenced_and_its_vms_start_elsewhere_only_then]
}

/// A node that sets a processor aside.
fn apart_stories() -> Vec<(&'static str, Story<Apart>)> {
    stories![
        hardware:
            a_guest_is_kept_to_its_limits_and_its_own_processor_is_nobody_elses;
    ]
}

/// The whole system with guests on two nodes.
fn lab_stories() -> Vec<(&'static str, Story<World>)> {
    stories![
        port_lifecycle:
            a_fixed_and_a_dynamic_address_reach_their_guests_by_dhcp,
            the_instance_shows_its_interface,
            guests_on_two_nodes_reach_each_other_over_both_families,
            a_guest_that_takes_another_address_is_not_heard;
        topology:
            a_guest_that_rules_keep_out_is_never_heard_while_they_change;
        vips:
            a_vip_is_reached_at_the_guest_that_announces_it;
        delegation:
            a_guest_that_is_a_router_is_delegated_a_prefix_that_leads_to_it_as_long_as_it_has_its_address;
        egress:
            a_guest_is_seen_outside_as_its_node_while_its_subnet_wants_out;
        netboot:
            a_vm_without_a_disk_boots_from_what_its_options_name;
        vm_lifecycle:
            a_stopped_vm_keeps_its_place_and_starts_with_it,
            a_rebooted_guest_keeps_place_and_instance,
            a_guests_process_has_none_of_roots_rights,
            a_killed_qemu_comes_back_with_the_same_place,
            a_guest_that_powers_off_is_started_again,
            a_deleted_vm_leaves_nothing_and_its_name_serves_again;
        migration:
            a_guest_moves_there_and_back_and_keeps_its_place_and_its_streams,
            a_move_that_is_called_off_or_fails_leaves_the_guest_where_it_is,
            a_cordoned_node_is_left_by_the_guests_that_say_so_and_by_no_others;
        migration_kills:
            the_controller_or_the_api_may_die_at_each_step_of_a_move,
            either_agent_may_die_at_each_step_of_a_move,
            either_libvirtd_may_die_at_each_step_of_a_move,
            what_is_ovns_may_die_at_each_step_of_a_move;
        subresources:
            a_console_is_the_guests_and_one_clients_at_a_time,
            a_display_is_the_guests,
            a_guest_that_is_reset_boots_again_and_one_that_is_paused_stands_still,
            a_vm_that_is_asked_to_migrate_moves;
        guest_agent:
            a_guest_is_shown_asked_frozen_and_reached_through_its_own_node;
        volumes:
            small_files_of_the_api_are_discs_in_the_guest,
            a_disk_of_the_host_is_made_and_kept,
            a_claim_keeps_what_the_guest_wrote_and_a_layer_over_it_does_not,
            a_claim_of_a_block_device_is_that_device,
            a_volume_that_cannot_be_says_so_on_its_vm;
        data_volumes:
            a_vm_boots_from_an_imported_disk_though_its_agent_dies_meanwhile;
        images:
            an_image_is_waited_for_pulled_over_a_kill_and_shared_by_those_who_may_have_it;
        restarts:
            the_controller_may_die_at_any_time,
            an_agent_may_die_at_any_time,
            the_northbound_database_may_die_at_any_time,
            the_southbound_database_may_die_at_any_time,
            the_database_of_a_node_may_die_at_any_time,
            the_api_may_die_at_any_time,
            the_daemons_of_a_node_may_die_under_a_guest;
        renewals:
            every_guest_renews_after_its_agent_was_killed_while_no_api_is_there;
    ]
}
